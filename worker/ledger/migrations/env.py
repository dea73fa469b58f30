"""Alembic environment: migrate over the connection that `worker.ledger.migrate` passes in, which excludes others."""

from alembic import context

from worker.ledger import outbox_schema, review_schema  # noqa: F401 - register their tables in the same metadata
from worker.ledger.schema import metadata

connection = context.config.attributes["connection"]
is_postgresql = connection.dialect.name == "postgresql"
# In a transaction of the caller, all migrations belong to it, and no index is built concurrently.
context.config.attributes["builds_concurrently"] = is_postgresql and not connection.in_transaction()
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
    transactional_ddl=True,
    transaction_per_migration=is_postgresql,
)
with context.begin_transaction():
    context.run_migrations()
