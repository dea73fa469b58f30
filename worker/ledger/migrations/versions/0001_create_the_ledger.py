"""Create the tables of the ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand the schema; the previous version must still run on it."""
    op.create_table(
        "images",
        sa.Column("image_id", sa.String(length=128), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.String(length=128), nullable=True),
        sa.Column("eye", sa.String(length=8), nullable=False),
        sa.Column("reference_grade", sa.SmallInteger(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("eye IN ('right', 'left', 'unknown')", name=op.f("ck_images_eye_known")),
        sa.CheckConstraint("reference_grade BETWEEN 0 AND 4", name=op.f("ck_images_reference_grade_range")),
        sa.PrimaryKeyConstraint("image_id", name=op.f("pk_images")),
    )
    op.create_table(
        "locks",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=36), nullable=False),
        sa.Column("until", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_locks")),
    )
    op.create_table(
        "models",
        sa.Column("model_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("model_id", name=op.f("pk_models")),
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("queue", sa.String(length=16), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("chunk_size", sa.SmallInteger(), nullable=False),
        sa.Column("model_id", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sealed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(state = 'finished') = (finished_at IS NOT NULL)", name=op.f("ck_runs_finished_has_time")),
        sa.CheckConstraint("kind IN ('manual', 'nightly')", name=op.f("ck_runs_kind_known")),
        sa.CheckConstraint("queue IN ('live', 'bulk')", name=op.f("ck_runs_queue_known")),
        sa.CheckConstraint("state IN ('open', 'running', 'finished', 'cancelled')", name=op.f("ck_runs_state_known")),
        sa.CheckConstraint("chunk_size BETWEEN 1 AND 256", name=op.f("ck_runs_chunk_size_range")),
        sa.ForeignKeyConstraint(["model_id"], ["models.model_id"], name=op.f("fk_runs_model_id")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_runs")),
        sa.UniqueConstraint("name", name=op.f("uq_runs_name")),
    )
    op.create_table(
        "gradings",
        sa.Column("run_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("image_id", sa.String(length=128), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=16), server_default="queued", nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_token", sa.String(length=36), nullable=True),
        sa.Column("due_at", sa.Float(precision=53), nullable=False),
        sa.Column("grade", sa.SmallInteger(), nullable=True),
        sa.Column("p_ge0", sa.REAL(), nullable=True),
        sa.Column("p_ge1", sa.REAL(), nullable=True),
        sa.Column("p_ge2", sa.REAL(), nullable=True),
        sa.Column("p_ge3", sa.REAL(), nullable=True),
        sa.Column("p_ge4", sa.REAL(), nullable=True),
        sa.Column("referable", sa.Boolean(), nullable=True),
        sa.Column("flags", sa.String(length=128), nullable=True),
        sa.Column("saliency", sa.LargeBinary(), nullable=True),
        sa.Column("model_id", sa.String(length=64), nullable=True),
        sa.Column("overlay_key", sa.Text(), nullable=True),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_detail", sa.Text(), nullable=True),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(status = 'graded') = (grade IS NOT NULL AND overlay_key IS NOT NULL AND saliency IS NOT NULL AND model_id IS NOT NULL AND p_ge4 IS NOT NULL AND referable IS NOT NULL)",
            name=op.f("ck_gradings_graded_is_complete"),
        ),
        sa.CheckConstraint("(status = 'queued') = (settled_at IS NULL)", name=op.f("ck_gradings_settled_has_time")),
        sa.CheckConstraint("status = 'queued' OR lease_token IS NULL", name=op.f("ck_gradings_settled_holds_no_lease")),
        sa.CheckConstraint(
            "status IN ('queued', 'graded', 'ungradable', 'failed', 'quarantined', 'cancelled')",
            name=op.f("ck_gradings_status_known"),
        ),
        sa.CheckConstraint(
            "status NOT IN ('failed', 'ungradable', 'quarantined') OR error_code IS NOT NULL",
            name=op.f("ck_gradings_failure_has_code"),
        ),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_gradings_attempts_range")),
        sa.CheckConstraint("grade BETWEEN 0 AND 4", name=op.f("ck_gradings_grade_range")),
        sa.CheckConstraint("p_ge0 BETWEEN 0 AND 1", name=op.f("ck_gradings_p_ge0_range")),
        sa.CheckConstraint("p_ge1 BETWEEN 0 AND 1", name=op.f("ck_gradings_p_ge1_range")),
        sa.CheckConstraint("p_ge2 BETWEEN 0 AND 1", name=op.f("ck_gradings_p_ge2_range")),
        sa.CheckConstraint("p_ge3 BETWEEN 0 AND 1", name=op.f("ck_gradings_p_ge3_range")),
        sa.CheckConstraint("p_ge4 BETWEEN 0 AND 1", name=op.f("ck_gradings_p_ge4_range")),
        sa.ForeignKeyConstraint(["image_id"], ["images.image_id"], name=op.f("fk_gradings_image_id")),
        sa.ForeignKeyConstraint(["model_id"], ["models.model_id"], name=op.f("fk_gradings_model_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_gradings_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "image_id", name=op.f("pk_gradings")),
    )
    op.create_index(
        "ix_gradings_due",
        "gradings",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("status = 'queued'"),
        sqlite_where=sa.text("status = 'queued'"),
    )
    op.create_index("ix_gradings_image", "gradings", ["image_id"], unique=False)
    op.create_index("ix_gradings_progress", "gradings", ["run_id", "status", "grade"], unique=False)


def downgrade() -> None:
    """Revert the migration."""
    op.drop_index("ix_gradings_progress", table_name="gradings")
    op.drop_index("ix_gradings_image", table_name="gradings")
    op.drop_index("ix_gradings_due", table_name="gradings")

    op.drop_table("gradings")
    op.drop_table("runs")
    op.drop_table("models")
    op.drop_table("locks")
    op.drop_table("images")
