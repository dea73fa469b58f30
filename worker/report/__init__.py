"""The report of a run: a folder of HTML pages that need no network."""
