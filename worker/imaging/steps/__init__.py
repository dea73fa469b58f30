"""What happens to one image, a function a step. No step imports another, and none imports TensorFlow."""
