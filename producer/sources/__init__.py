"""Sources of image references: folders, buckets, manifests and stacks."""
