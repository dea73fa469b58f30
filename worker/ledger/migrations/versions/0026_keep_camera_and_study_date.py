"""Add the camera or site of an image, and the date of its DICOM study."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    op.add_column("images", sa.Column("source", sa.String(length=64), nullable=True))
    op.add_column("images", sa.Column("study_date", sa.Date(), nullable=True))


def downgrade() -> None:
    """Revert the migration."""
    op.drop_column("images", "study_date")
    op.drop_column("images", "source")
