"""Allow that the reason of a decision is erased; all else of a decision stays unchangeable."""

from worker.ledger.migrations.append_only import allow_only_erased_reasons, refuse_all_updates

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    allow_only_erased_reasons()


def downgrade() -> None:
    """Revert the migration."""
    refuse_all_updates()
