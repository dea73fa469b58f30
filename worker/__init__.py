"""Grading of retinal photographs: shared core, ledger, imaging, model and the Celery worker."""

__version__ = "0.1.0"
