"""The model that everything is measured with."""

MODEL = "densenet121-aptos-224"
"""Of the notebook's size, so that peers do the same work; FUNDUS_MODEL has a worker take another."""
