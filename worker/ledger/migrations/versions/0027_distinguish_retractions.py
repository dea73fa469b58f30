"""Let the outbox have a retraction next to the decision that it retracts."""

from alembic import op

from worker.ledger.migrations.indexes import create_index

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_DECISION = ["run_id", "image_id", "kind", "settled_at", "decision_id"]


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    create_index("ix_outbox_decision", "outbox", [*_DECISION, "withdrawn"], unique=True)
    op.drop_index("ix_outbox_object", table_name="outbox", if_exists=True)


def downgrade() -> None:
    """Revert the migration."""
    op.execute("DELETE FROM outbox WHERE withdrawn")
    create_index("ix_outbox_object", "outbox", _DECISION, unique=True)
    op.drop_index("ix_outbox_decision", table_name="outbox", if_exists=True)
