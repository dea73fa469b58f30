"""Add the index for the throughput of a run."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    op.create_index(
        "ix_gradings_settled",
        "gradings",
        ["run_id", "settled_at"],
        unique=False,
        postgresql_where=sa.text("settled_at IS NOT NULL"),
        sqlite_where=sa.text("settled_at IS NOT NULL"),
    )


def downgrade() -> None:
    """Revert the migration."""
    op.drop_index("ix_gradings_settled", table_name="gradings")
