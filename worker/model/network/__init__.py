"""Build the network in Keras, with Grad-CAM; TensorFlow or JAX compiles it."""

from worker.model.network.backend import set_default_backend

# Keras reads its backend once, when a module below first imports it.
set_default_backend()
