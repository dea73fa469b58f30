"""Finds photographs, registers them in the ledger and enqueues them; home of the `fundus` command line."""
