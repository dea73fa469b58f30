"""Find images, register them in the ledger and enqueue them; with the command line `fundus`."""
