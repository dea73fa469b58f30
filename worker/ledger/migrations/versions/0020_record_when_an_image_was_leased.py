"""Add the time at which an image was leased, for the busy time of a run."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    op.add_column("gradings", sa.Column("leased_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Revert the migration."""
    op.drop_column("gradings", "leased_at")
