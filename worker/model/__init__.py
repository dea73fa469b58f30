"""The network, its decoding and its explanation. TensorFlow is imported by `densenet`, `gradcam` and `engine` alone."""
