"""The steps of one image, one verb-noun function each. Steps neither import each other nor TensorFlow."""
