"""Celery extensions of a worker: message validation, a consumer for the live queue, no delayed delivery."""
