"""Add the precision in which a worker computes."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    op.add_column("workers", sa.Column("precision", sa.String(length=16), nullable=True))


def downgrade() -> None:
    """Revert the migration."""
    op.drop_column("workers", "precision")
