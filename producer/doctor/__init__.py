"""Checks of one installation: settings, database, broker, storage, model."""
