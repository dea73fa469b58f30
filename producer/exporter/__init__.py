"""Prometheus metrics of the ledger, the nights and the disks."""
