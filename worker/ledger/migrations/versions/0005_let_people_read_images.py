"""Add users, their sessions, and their append-only decisions on images."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_SQLITE = """
CREATE TRIGGER decisions_refuses_{event} BEFORE {event} ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions are append-only'); END
"""
_POSTGRESQL_FUNCTION = """
CREATE FUNCTION decisions_refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'decisions are append-only' USING ERRCODE = 'insufficient_privilege'; END $$
"""
_POSTGRESQL = """
CREATE TRIGGER decisions_refuses_{event} BEFORE {event} ON decisions FOR EACH STATEMENT EXECUTE FUNCTION decisions_refuse()
"""


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "users",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("password_hash", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("role IN ('viewer', 'grader', 'operator')", name=op.f("ck_users_role_known")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_users")),
    )
    op.create_table(
        "sessions",
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("began_at", sa.Float(precision=53), nullable=False),
        sa.Column("seen_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["name"], ["users.name"], name=op.f("fk_sessions_name")),
        sa.PrimaryKeyConstraint("token_sha256", name=op.f("pk_sessions")),
    )
    op.create_index("ix_sessions_name", "sessions", ["name"], unique=False)
    op.create_table(
        "sign_in_attempts",
        sa.Column("attempt_id", number, autoincrement=True, nullable=False),
        sa.Column("name_sha256", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_sign_in_attempts")),
    )
    op.create_index("ix_sign_in_attempts_at", "sign_in_attempts", ["at"], unique=False)
    op.create_table(
        "reading_rules",
        sa.Column("run_id", number, nullable=False),
        sa.Column("readers", sa.SmallInteger(), nullable=False),
        sa.CheckConstraint("readers IN (1, 2)", name=op.f("ck_reading_rules_readers_range")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_reading_rules_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_reading_rules")),
    )
    op.create_table(
        "decisions",
        sa.Column("decision_id", number, autoincrement=True, nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("run", sa.String(length=128), nullable=False),
        sa.Column("image_id", sa.String(length=128), nullable=False),
        sa.Column("reader", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("grade", sa.SmallInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("seen_status", sa.String(length=16), nullable=False),
        sa.Column("seen_grade", sa.SmallInteger(), nullable=True),
        sa.Column("seen_model_id", sa.String(length=64), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.CheckConstraint("kind IN ('reading', 'arbitration')", name=op.f("ck_decisions_kind_known")),
        sa.CheckConstraint("grade BETWEEN 0 AND 4", name=op.f("ck_decisions_grade_range")),
        sa.CheckConstraint("length(reason) <= 2000", name=op.f("ck_decisions_reason_length")),
        sa.ForeignKeyConstraint(["reader"], ["users.name"], name=op.f("fk_decisions_reader")),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_decisions")),
    )
    op.create_index("ix_decisions_image", "decisions", ["run_id", "image_id"], unique=False)
    op.create_table(
        "reviews",
        sa.Column("run_id", number, nullable=False),
        sa.Column("image_id", sa.String(length=128), nullable=False),
        sa.Column("state", sa.String(length=16), server_default="unread", nullable=False),
        sa.Column("grade", sa.SmallInteger(), nullable=True),
        sa.Column("decided_by", sa.String(length=255), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("differs", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("leased_by", sa.String(length=64), nullable=True),
        sa.Column("leased_until", sa.Float(precision=53), nullable=True),
        sa.CheckConstraint(
            "state IN ('unread', 'half_read', 'disputed', 'read', 'arbitrated')", name=op.f("ck_reviews_state_known")
        ),
        sa.CheckConstraint("grade BETWEEN 0 AND 4", name=op.f("ck_reviews_grade_range")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_reviews_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "image_id", name=op.f("pk_reviews")),
    )
    op.create_index("ix_reviews_state", "reviews", ["run_id", "state", "image_id"], unique=False)
    op.create_index(
        "ix_reviews_leased",
        "reviews",
        ["leased_by"],
        unique=False,
        postgresql_where=sa.text("leased_by IS NOT NULL"),
        sqlite_where=sa.text("leased_by IS NOT NULL"),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_POSTGRESQL_FUNCTION)
        for event in ("UPDATE", "DELETE", "TRUNCATE"):
            op.execute(_POSTGRESQL.format(event=event))
    else:
        for event in ("UPDATE", "DELETE"):
            op.execute(_SQLITE.format(event=event))


def downgrade() -> None:
    """Revert the migration."""
    for table in ("reviews", "decisions", "reading_rules", "sign_in_attempts", "sessions", "users"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION decisions_refuse()")
