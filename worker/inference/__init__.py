"""Grade chunks of images: runtime, pipeline, batcher and what keeps them going."""
