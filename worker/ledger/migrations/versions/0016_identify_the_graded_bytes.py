"""Add the identity of the bytes that were graded, and of the photograph that a reader was shown."""

import sqlalchemy as sa
from alembic import op

from worker.ledger.migrations.append_only import allow_only_erased_reasons, refuse_all_updates

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    op.add_column("gradings", sa.Column("content_sha256", sa.String(length=64), nullable=True))
    op.add_column("gradings", sa.Column("content_version", sa.Text(), nullable=True))
    op.add_column("decisions", sa.Column("seen_sha256", sa.String(length=64), nullable=True))
    allow_only_erased_reasons()


def downgrade() -> None:
    """Revert the migration."""
    # SQLite drops no column that a trigger names.
    refuse_all_updates()
    op.drop_column("decisions", "seen_sha256")
    allow_only_erased_reasons()
    op.drop_column("gradings", "content_version")
    op.drop_column("gradings", "content_sha256")
