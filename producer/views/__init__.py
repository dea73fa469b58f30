"""Status tables and the live view of a run."""
