"""Draw status tables and the live view of a run."""
