"""What producers and workers agree on; needs no TensorFlow, OpenCV or running broker to import."""
