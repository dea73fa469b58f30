"""Record how far the members of an ensemble disagree."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema; the version before this one must still run on it."""
    op.add_column("gradings", sa.Column("disagreement", sa.REAL(), nullable=True))


def downgrade() -> None:
    """Undo it."""
    op.drop_column("gradings", "disagreement")
