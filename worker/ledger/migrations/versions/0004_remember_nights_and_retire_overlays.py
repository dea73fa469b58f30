"""Add nights, the images that each programme has seen, the columns for retention, and legal holds."""

import re
from datetime import UTC, date, datetime

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_RUN_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_COMPLETE = "(status = 'graded') = (grade IS NOT NULL AND {overlay} AND saliency IS NOT NULL AND model_id IS NOT NULL AND p_ge4 IS NOT NULL AND referable IS NOT NULL)"
_BEFORE = _COMPLETE.format(overlay="overlay_key IS NOT NULL")
_AFTER = _COMPLETE.format(overlay="(overlay_key IS NOT NULL OR overlay_retired_at IS NOT NULL)")
_RETIRED = "retired_key IS NOT NULL"


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    op.create_table(
        "nights",
        sa.Column("run_id", _RUN_ID, nullable=False),
        sa.Column("programme", sa.String(length=64), nullable=False),
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("watermark", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("verdict", sa.String(length=16), nullable=True),
        sa.Column("findings", sa.JSON(), nullable=True),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_nights_run_id")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_nights")),
    )
    op.create_index("ix_nights_night", "nights", ["programme", "night"], unique=True)
    op.create_table(
        "sightings",
        sa.Column("programme", sa.String(length=64), nullable=False),
        sa.Column("image_id", sa.String(length=128), nullable=False),
        sa.Column("version", sa.String(length=128), nullable=True),
        sa.Column("run_id", _RUN_ID, nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_sightings_run_id")),
        sa.PrimaryKeyConstraint("programme", "image_id", name=op.f("pk_sightings")),
    )
    op.add_column("runs", sa.Column("held", sa.Boolean(), server_default=sa.false(), nullable=False))
    _change_gradings(_BEFORE, _AFTER)
    op.create_index(
        "ix_gradings_retired",
        "gradings",
        ["run_id"],
        postgresql_where=sa.text(_RETIRED),
        sqlite_where=sa.text(_RETIRED),
    )
    _remember_earlier_nights()


def downgrade() -> None:
    """Revert the migration. The database refuses it once an overlay has been retired."""
    op.drop_index("ix_gradings_retired", table_name="gradings")
    _change_gradings(_AFTER, _BEFORE)
    op.drop_column("runs", "held")
    op.drop_table("sightings")
    op.drop_index("ix_nights_night", table_name="nights")
    op.drop_table("nights")


def _change_gradings(before: str, after: str) -> None:
    forward = after == _AFTER
    if forward:
        op.add_column("gradings", sa.Column("overlay_retired_at", sa.DateTime(timezone=True), nullable=True))
        op.add_column("gradings", sa.Column("retired_key", sa.Text(), nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint(op.f("ck_gradings_graded_is_complete"), "gradings", type_="check")
        op.create_check_constraint(op.f("ck_gradings_graded_is_complete"), "gradings", after)
    else:
        _rebuild(before, after)
    if not forward:
        op.drop_column("gradings", "retired_key")
        op.drop_column("gradings", "overlay_retired_at")


def _rebuild(before: str, after: str) -> None:
    """Recreate the table with the changed constraint, since SQLite cannot alter a constraint."""
    connection = op.get_bind()
    (created,) = connection.execute(sa.text("SELECT sql FROM sqlite_master WHERE name = 'gradings'")).scalars()
    indexes = connection.execute(
        sa.text("SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'gradings' AND sql IS NOT NULL")
    ).scalars()
    definitions = [*indexes]
    wanted = re.sub(r'^CREATE TABLE "?gradings"?', "CREATE TABLE gradings_anew", created).replace(before, after)
    if after not in wanted:
        raise RuntimeError("the table gradings has no constraint graded_is_complete as this version made it")
    op.execute(sa.text(wanted.replace(":", r"\:")))
    op.execute("INSERT INTO gradings_anew SELECT * FROM gradings")
    op.execute("DROP TABLE gradings")
    op.execute("ALTER TABLE gradings_anew RENAME TO gradings")
    for definition in definitions:
        op.execute(sa.text(definition.replace(":", r"\:")))


def _remember_earlier_nights() -> None:
    """Add the existing nights. Those that have ended count as closed and alerted, so that no old night sends an alert."""
    connection = op.get_bind()
    runs = connection.execute(sa.text("SELECT run_id, name, state FROM runs WHERE kind = 'nightly'")).all()
    night = sa.table(
        "nights",
        sa.column("run_id"),
        sa.column("programme"),
        sa.column("night", sa.Date()),
        sa.column("closed_at", sa.DateTime(timezone=True)),
        sa.column("told_at", sa.DateTime(timezone=True)),
    )
    now = datetime.now(UTC)
    for run in runs:
        if not re.fullmatch(r"nightly-\d{4}-\d{2}-\d{2}", run.name):
            continue
        over = now if run.state in ("finished", "cancelled") else None
        day = date.fromisoformat(run.name.removeprefix("nightly-"))
        row = {"run_id": run.run_id, "programme": "nightly", "night": day, "closed_at": over, "told_at": over}
        connection.execute(sa.insert(night).values(row))
    op.execute(
        "INSERT INTO sightings (programme, image_id, run_id)"
        " SELECT 'nightly', g.image_id, max(g.run_id) FROM gradings g JOIN runs r ON r.run_id = g.run_id"
        " WHERE r.kind = 'nightly' AND g.status <> 'cancelled' GROUP BY g.image_id"
    )
