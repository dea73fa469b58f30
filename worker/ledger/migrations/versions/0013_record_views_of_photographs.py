"""Add the views of photographs in the console, which retention deletes by age."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_SQLITE = """
CREATE TRIGGER photograph_views_refuses_update BEFORE UPDATE ON photograph_views
BEGIN SELECT RAISE(ABORT, 'views are never changed'); END
"""
_POSTGRESQL_FUNCTION = """
CREATE FUNCTION photograph_views_refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'views are never changed' USING ERRCODE = 'insufficient_privilege'; END $$
"""
_POSTGRESQL = """
CREATE TRIGGER photograph_views_refuses_update BEFORE UPDATE ON photograph_views
FOR EACH STATEMENT EXECUTE FUNCTION photograph_views_refuse()
"""


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    op.create_table(
        "photograph_views",
        sa.Column("view_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("viewer", sa.String(length=64), nullable=False),
        sa.Column("run", sa.String(length=128), nullable=False),
        sa.Column("image_id", sa.String(length=128), nullable=False),
        sa.Column("picture", sa.String(length=16), nullable=False),
        sa.CheckConstraint("picture IN ('photograph', 'overlay')", name=op.f("ck_photograph_views_picture_known")),
        sa.ForeignKeyConstraint(["viewer"], ["users.name"], name=op.f("fk_photograph_views_viewer")),
        sa.PrimaryKeyConstraint("view_id", name=op.f("pk_photograph_views")),
    )
    op.create_index("ix_photograph_views_at", "photograph_views", ["at"], unique=False)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_POSTGRESQL_FUNCTION)
        op.execute(_POSTGRESQL)
    else:
        op.execute(_SQLITE)


def downgrade() -> None:
    """Revert the migration."""
    op.drop_table("photograph_views")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION photograph_views_refuse()")
