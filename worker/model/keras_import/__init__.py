"""Import Keras weight files, read in a process of their own."""
