"""Prometheus metrics of the ledger, nights and disks."""
