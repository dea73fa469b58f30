"""Add the site of a run, and the verdicts about models at sites."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    op.add_column("runs", sa.Column("site", sa.String(length=64), nullable=True))
    op.create_table(
        "site_acceptances",
        sa.Column(
            "acceptance_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("site", sa.String(length=64), nullable=False),
        sa.Column("model_id", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("configurations", sa.JSON(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("decided_by", sa.String(length=255), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.model_id"], name=op.f("fk_site_acceptances_model_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_site_acceptances_run_id")),
        sa.PrimaryKeyConstraint("acceptance_id", name=op.f("pk_site_acceptances")),
    )
    op.create_index("ix_site_acceptances_model", "site_acceptances", ["site", "model_id"])


def downgrade() -> None:
    """Revert the migration."""
    op.drop_table("site_acceptances")
    op.drop_column("runs", "site")
