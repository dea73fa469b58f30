"""Grades retinal photographs: the contract with producers, the steps, the model and the Celery worker."""

__version__ = "0.1.0"
