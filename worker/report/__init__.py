"""The report of a run: an HTML page with its data and tables, readable offline."""
