"""Publish results where clinicians look: take objects from the outbox and store each one exactly once."""
