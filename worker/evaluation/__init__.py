"""Measure agreement with reference grades, compare runs, detect drift and audit saliency maps."""
