"""Add the index that answers whether a run has a queued image left."""

from alembic import op

from worker.ledger.migrations.indexes import create_index

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    create_index("ix_gradings_queued", "gradings", ["run_id", "position"], where="status = 'queued'")


def downgrade() -> None:
    """Revert the migration."""
    op.drop_index("ix_gradings_queued", table_name="gradings")
