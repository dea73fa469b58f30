"""Read manifests and label files, and check each image reference."""
