"""Manifests, label files and image references."""
