"""Alembic migrations of the ledger, run by `worker.ledger.migrate`."""
