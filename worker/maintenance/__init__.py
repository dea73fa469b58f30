"""Periodic work: the reconciler, closing nights, and the bodies of beat's tasks."""
