"""Add the unfamiliarity of an image: the distance of its features from those of the training photographs."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    op.add_column("gradings", sa.Column("unfamiliarity", sa.REAL(), nullable=True))


def downgrade() -> None:
    """Revert the migration."""
    op.drop_column("gradings", "unfamiliarity")
