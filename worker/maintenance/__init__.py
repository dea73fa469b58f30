"""Periodic work: the reconciler, the closing of nights and beat's tasks."""
