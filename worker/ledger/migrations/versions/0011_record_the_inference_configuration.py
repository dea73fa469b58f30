"""Add inference configurations, the one of each outcome, and the precision that a run requires."""

import re

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_COLUMN = (
    "configuration_id VARCHAR(16) CONSTRAINT fk_gradings_configuration_id"
    " REFERENCES inference_configurations (configuration_id)"
)


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    op.create_table(
        "inference_configurations",
        sa.Column("configuration_id", sa.String(length=16), nullable=False),
        sa.Column("model_id", sa.String(length=64), nullable=False),
        sa.Column("program_version", sa.String(length=32), nullable=False),
        sa.Column("engine", sa.String(length=64), nullable=False),
        sa.Column("precision", sa.String(length=16), nullable=False),
        sa.Column("device", sa.String(length=255), nullable=False),
        sa.Column("libraries", sa.JSON(), nullable=False),
        sa.Column("recipes", sa.JSON(), nullable=False),
        sa.Column("self_test", sa.JSON(), nullable=True),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.model_id"], name=op.f("fk_inference_configurations_model_id")),
        sa.PrimaryKeyConstraint("configuration_id", name=op.f("pk_inference_configurations")),
    )
    # In one statement with the column, PostgreSQL does not scan the table to validate the foreign key.
    op.execute(f"ALTER TABLE gradings ADD COLUMN {_COLUMN}")
    op.add_column("runs", sa.Column("precision", sa.String(length=16), nullable=True))


def downgrade() -> None:
    """Revert the migration."""
    op.drop_column("runs", "precision")
    if op.get_bind().dialect.name == "postgresql":
        op.drop_column("gradings", "configuration_id")
    else:
        _rebuild_without_column()
    op.drop_table("inference_configurations")


def _rebuild_without_column() -> None:
    """Recreate the table, since SQLite cannot drop a column with a foreign key."""
    connection = op.get_bind()
    (created,) = connection.execute(sa.text("SELECT sql FROM sqlite_master WHERE name = 'gradings'")).scalars()
    indexes = connection.execute(
        sa.text("SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'gradings' AND sql IS NOT NULL")
    ).scalars()
    definitions = [*indexes]
    wanted = re.sub(r'^CREATE TABLE "?gradings"?', "CREATE TABLE gradings_rebuilt", created).replace(f", {_COLUMN}", "")
    if "configuration_id" in wanted:
        raise RuntimeError("the table gradings has no column configuration_id as this version added it")
    names = [column["name"] for column in sa.inspect(connection).get_columns("gradings")]
    kept = ", ".join(name for name in names if name != "configuration_id")
    op.execute(sa.text(wanted.replace(":", r"\:")))
    op.execute(f"INSERT INTO gradings_rebuilt ({kept}) SELECT {kept} FROM gradings")  # noqa: S608 - column names of the schema
    op.execute("DROP TABLE gradings")
    op.execute("ALTER TABLE gradings_rebuilt RENAME TO gradings")
    for definition in definitions:
        op.execute(sa.text(definition.replace(":", r"\:")))
