"""Add when an image began to wait, and when a duty was last done."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    op.add_column("gradings", sa.Column("queued_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "duties",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_duties")),
    )


def downgrade() -> None:
    """Revert the migration."""
    op.drop_table("duties")
    op.drop_column("gradings", "queued_at")
