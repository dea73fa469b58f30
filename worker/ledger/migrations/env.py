"""Alembic environment: migrate over the connection that `worker.ledger.migrate` passes in."""

from alembic import context
from sqlalchemy import text

from worker.ledger import review_schema  # noqa: F401 - registers the review tables in the same metadata
from worker.ledger.schema import metadata

MIGRATION_LOCK = 0x46554E445553  # "FUNDUS" in ASCII; no other program of the database may use this number

connection = context.config.attributes["connection"]
if connection.dialect.name == "postgresql":
    connection.execute(text("SET LOCAL lock_timeout = '10s'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
