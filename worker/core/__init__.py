"""Code shared by producers and workers. Importing it needs no TensorFlow, OpenCV or running broker."""
