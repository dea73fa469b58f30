"""Add the index that answers which photographs are of a patient."""

from alembic import op

from worker.ledger.migrations.indexes import create_index

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    create_index("ix_images_patient", "images", ["patient_id"], where="patient_id IS NOT NULL")


def downgrade() -> None:
    """Revert the migration."""
    op.drop_index("ix_images_patient", table_name="images")
