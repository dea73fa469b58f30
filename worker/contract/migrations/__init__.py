"""The ledger's history, run by `worker.contract.migrate`."""
