"""The ledger's history, run by `worker.ledger.migrate`."""
