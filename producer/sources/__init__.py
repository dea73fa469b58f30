"""Where references come from: folders, buckets, manifests and stacks."""
