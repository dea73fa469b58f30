"""Build the network in Keras, and its TensorFlow graphs with Grad-CAM."""
