"""Build the network, its graph and its Grad-CAM in Keras."""
