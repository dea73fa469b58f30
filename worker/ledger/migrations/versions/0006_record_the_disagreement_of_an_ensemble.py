"""Add the disagreement between the members of an ensemble."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    op.add_column("gradings", sa.Column("disagreement", sa.REAL(), nullable=True))


def downgrade() -> None:
    """Revert the migration."""
    op.drop_column("gradings", "disagreement")
