"""The model of the benchmarks."""

MODEL = "densenet121-aptos-224"
"""Same input size as the notebook, so that peers do the same work. FUNDUS_MODEL selects another for the worker."""
