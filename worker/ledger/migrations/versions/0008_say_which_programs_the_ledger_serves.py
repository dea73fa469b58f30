"""Add the oldest program revision that the ledger supports."""

import sqlalchemy as sa
from alembic import op

from worker.ledger.migrations.compatibility import set_minimum_revision

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    op.create_table(
        "compatibility",
        sa.Column("oldest_level", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("oldest_level", name=op.f("pk_compatibility")),
    )
    # Programs older than this revision do not read the table and keep running.
    set_minimum_revision("0008")


def downgrade() -> None:
    """Revert the migration."""
    op.drop_table("compatibility")
