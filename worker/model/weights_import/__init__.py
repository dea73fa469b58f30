"""Import weight files, which are read in a separate process."""
