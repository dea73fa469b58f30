"""Add withdrawals of decisions, findings, unassisted readings and what readers skipped or saw."""

import sqlalchemy as sa
from alembic import op

from worker.ledger.migrations.append_only import allow_only_erased_reasons, refuse_all_updates

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_SQLITE = """
CREATE TRIGGER withdrawals_refuses_{event} BEFORE {event} ON withdrawals
BEGIN SELECT RAISE(ABORT, 'withdrawals are append-only'); END
"""
_POSTGRESQL_FUNCTION = """
CREATE FUNCTION withdrawals_refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'withdrawals are append-only' USING ERRCODE = 'insufficient_privilege'; END $$
"""
_POSTGRESQL = """
CREATE TRIGGER withdrawals_refuses_{event} BEFORE {event} ON withdrawals
FOR EACH STATEMENT EXECUTE FUNCTION withdrawals_refuse()
"""


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.add_column("decisions", sa.Column("findings", sa.String(length=128), nullable=True))
    op.add_column("decisions", sa.Column("unassisted", sa.Boolean(), nullable=True))
    op.add_column("decisions", sa.Column("seconds", sa.Float(precision=53), nullable=True))
    allow_only_erased_reasons()
    op.add_column(
        "reading_rules", sa.Column("assistance", sa.String(length=16), server_default="first", nullable=False)
    )
    op.create_table(
        "withdrawals",
        sa.Column("decision_id", number, autoincrement=False, nullable=False),
        sa.Column("reader", sa.String(length=64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["decision_id"], ["decisions.decision_id"], name=op.f("fk_withdrawals_decision_id")),
        sa.ForeignKeyConstraint(["reader"], ["users.name"], name=op.f("fk_withdrawals_reader")),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_withdrawals")),
    )
    op.create_table(
        "reader_images",
        sa.Column("run_id", number, nullable=False),
        sa.Column("reader", sa.String(length=64), nullable=False),
        sa.Column("image_id", sa.String(length=128), nullable=False),
        sa.Column("skipped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("result_seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decisions_seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_reader_images_run_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["reader"], ["users.name"], name=op.f("fk_reader_images_reader")),
        sa.PrimaryKeyConstraint("run_id", "reader", "image_id", name=op.f("pk_reader_images")),
    )
    op.create_index("ix_reader_images_image", "reader_images", ["image_id"], unique=False)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_POSTGRESQL_FUNCTION)
        for event in ("UPDATE", "DELETE", "TRUNCATE"):
            op.execute(_POSTGRESQL.format(event=event))
    else:
        for event in ("UPDATE", "DELETE"):
            op.execute(_SQLITE.format(event=event))


def downgrade() -> None:
    """Revert the migration."""
    op.drop_table("reader_images")
    op.drop_table("withdrawals")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION withdrawals_refuse()")
    op.drop_column("reading_rules", "assistance")
    # SQLite drops no column that a trigger names.
    refuse_all_updates()
    for name in ("seconds", "unassisted", "findings"):
        op.drop_column("decisions", name)
    allow_only_erased_reasons()
