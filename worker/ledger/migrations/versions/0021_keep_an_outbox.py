"""Add the outbox of results that are published."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_KINDS = "'overlay', 'sr', 'fhir'"
_STATES = "'pending', 'published', 'refused', 'superseded'"
_IS_PENDING = sa.text("state = 'pending'")


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    op.create_table(
        "outbox",
        sa.Column(
            "outbox_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("run_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("image_id", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decision_id", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("uid", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), server_default="pending", nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_token", sa.String(length=36), nullable=True),
        sa.Column("due_at", sa.Float(precision=53), nullable=False),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_detail", sa.Text(), nullable=True),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(f"kind IN ({_KINDS})", name=op.f("ck_outbox_kind_known")),
        sa.CheckConstraint(f"state IN ({_STATES})", name=op.f("ck_outbox_state_known")),
        sa.CheckConstraint(
            "(state = 'published') = (published_at IS NOT NULL)", name=op.f("ck_outbox_published_has_time")
        ),
        sa.CheckConstraint("state <> 'refused' OR error_code IS NOT NULL", name=op.f("ck_outbox_refusal_has_code")),
        sa.CheckConstraint("state = 'pending' OR lease_token IS NULL", name=op.f("ck_outbox_only_pending_is_leased")),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_outbox_attempts_range")),
        sa.ForeignKeyConstraint(
            ["run_id", "image_id"],
            ["gradings.run_id", "gradings.image_id"],
            name=op.f("fk_outbox_run_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("outbox_id", name=op.f("pk_outbox")),
    )
    op.create_index(
        "ix_outbox_object", "outbox", ["run_id", "image_id", "kind", "settled_at", "decision_id"], unique=True
    )
    op.create_index("ix_outbox_due", "outbox", ["due_at"], postgresql_where=_IS_PENDING, sqlite_where=_IS_PENDING)
    op.create_index("ix_outbox_state", "outbox", ["run_id", "state", "kind"])


def downgrade() -> None:
    """Revert the migration."""
    op.drop_table("outbox")
