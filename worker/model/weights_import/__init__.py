"""Import weight files of Keras and PyTorch, which are read in a separate process."""
