"""How well the grades of a run agree with reference grades, and how two runs differ."""
