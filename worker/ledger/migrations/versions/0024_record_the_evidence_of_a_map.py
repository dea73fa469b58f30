"""Add what the maximum of a saliency map stands for, in logits, and the evidence that is shown at full strength."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    op.add_column("gradings", sa.Column("evidence", sa.REAL(), nullable=True))
    op.add_column("gradings", sa.Column("evidence_scale", sa.REAL(), nullable=True))


def downgrade() -> None:
    """Revert the migration."""
    op.drop_column("gradings", "evidence_scale")
    op.drop_column("gradings", "evidence")
