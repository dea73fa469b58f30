"""Let the outbox say that a decision, whose result was published, was withdrawn."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    op.add_column("outbox", sa.Column("withdrawn", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    """Revert the migration."""
    op.execute("DELETE FROM outbox WHERE withdrawn")
    op.drop_column("outbox", "withdrawn")
