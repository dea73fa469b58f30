"""Say which programs the ledger serves: how old one may be, once the ledger is newer than it."""

import sqlalchemy as sa
from alembic import op

from worker.ledger.migrations.compatibility import set_minimum_revision

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema; the version before this one must still run on it."""
    op.create_table(
        "compatibility",
        sa.Column("oldest_level", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("oldest_level", name=op.f("pk_compatibility")),
    )
    # Programs before this level run on, and know of no ledger that is newer than they are.
    set_minimum_revision("0008")


def downgrade() -> None:
    """Undo it."""
    op.drop_table("compatibility")
