"""Add the workers that have started, with their model and their queues."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    op.create_table(
        "workers",
        sa.Column("worker_id", sa.String(length=36), nullable=False),
        sa.Column("model_id", sa.String(length=64), nullable=True),
        sa.Column("queues", sa.String(length=64), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.Float(precision=53), nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["model_id"], ["models.model_id"], name=op.f("fk_workers_model_id")),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_workers")),
    )


def downgrade() -> None:
    """Revert the migration."""
    op.drop_table("workers")
