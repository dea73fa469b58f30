"""All SQL: schema, migrations, leases, runs, completion, status, export and retention."""
