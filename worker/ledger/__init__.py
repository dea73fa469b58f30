"""The SQL ledger: schema, migrations, transactions, locks, leases, runs, status, export, retention and audit log."""
