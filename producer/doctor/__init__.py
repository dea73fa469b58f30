"""Checks of an installation: settings, database, broker, storage, model and workers."""
