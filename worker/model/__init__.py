"""The model: bundles, the network, its decoding and its explanation. TensorFlow is imported by few modules only."""
