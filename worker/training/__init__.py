"""Fit a model with the worker's own field and enhance steps, so that training and serving cannot drift apart."""
