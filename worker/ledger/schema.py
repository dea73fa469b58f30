"""Tables of the ledger, for SQLite and PostgreSQL."""

from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import (
    JSON,
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    false,
    text,
)

from worker.core.vocabulary import Eye, Queue, RunKind, RunState, Status

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

OUTPUTS = ("p_ge0", "p_ge1", "p_ge2", "p_ge3", "p_ge4")
"""Columns of the five cumulative probabilities: `p_geK` is P(grade >= K)."""


class UtcDateTime(TypeDecorator[datetime]):
    """Timezone-aware time, stored in UTC; SQLite stores it without the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - the base class names it
        """Convert to UTC. Raises ValueError for a time without a zone."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value!r} has no timezone")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - the base class names it
        """Add the zone that SQLite drops."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _one_of(column: str, words: type[StrEnum]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(str(word)) for word in words)})", name=f"{column}_known")


models = Table(
    "models",
    metadata,
    Column("model_id", String(64), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("document", JSON, nullable=False),
    Column("registered_at", UtcDateTime, nullable=False),
)

# What computed outcomes; see `configurations`. Rows are never changed: the id is a hash of the other columns.
inference_configurations = Table(
    "inference_configurations",
    metadata,
    Column("configuration_id", String(16), primary_key=True),
    Column("model_id", String(64), ForeignKey("models.model_id"), nullable=False),
    Column("program_version", String(32), nullable=False),
    Column("engine", String(64), nullable=False),
    Column("precision", String(16), nullable=False),
    Column("device", String(255), nullable=False),
    # Versions by the libraries' names.
    Column("libraries", JSON, nullable=False),
    # The model's recipes, a list.
    Column("recipes", JSON, nullable=False),
    # Agreement with the bundle's float32 answers at the worker's start; NULL for a bundle without golden inputs.
    Column("self_test", JSON(none_as_null=True), nullable=True),
    Column("registered_at", UtcDateTime, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("queue", String(16), nullable=False),
    Column("source", Text, nullable=False),
    Column("chunk_size", SmallInteger, nullable=False),
    # Set by the first worker that leases an image of the run; workers with another model are refused from then on.
    Column("model_id", String(64), ForeignKey("models.model_id"), nullable=True),
    # Workers with another precision are refused; NULL admits every precision.
    Column("precision", String(16), nullable=True),
    # Where the photographs were taken; NULL if it was not given. See `site_acceptance`.
    Column("site", String(64), nullable=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("sealed_at", UtcDateTime, nullable=True),
    Column("finished_at", UtcDateTime, nullable=True),
    # Legal hold: retention skips the run.
    Column("held", Boolean, nullable=False, server_default=false()),
    _one_of("kind", RunKind),
    _one_of("state", RunState),
    _one_of("queue", Queue),
    CheckConstraint("chunk_size BETWEEN 1 AND 256", name="chunk_size_range"),
    CheckConstraint("(state = 'finished') = (finished_at IS NOT NULL)", name="finished_has_time"),
)

images = Table(
    "images",
    metadata,
    Column("image_id", String(128), primary_key=True),
    Column("uri", Text, nullable=False),
    Column("patient_id", String(128), nullable=True),
    Column("eye", String(8), nullable=False),
    Column("reference_grade", SmallInteger, nullable=True),
    Column("sha256", String(64), nullable=True),
    # Camera or site, see `ImageReference`.
    Column("source", String(64), nullable=True),
    # Of a DICOM study: when the photograph was taken.
    Column("study_date", Date, nullable=True),
    Column("registered_at", UtcDateTime, nullable=False),
    _one_of("eye", Eye),
    CheckConstraint("reference_grade BETWEEN 0 AND 4", name="reference_grade_range"),
    # For the other photographs of a patient.
    Index(
        "ix_images_patient",
        "patient_id",
        postgresql_where=text("patient_id IS NOT NULL"),
        sqlite_where=text("patient_id IS NOT NULL"),
    ),
)

gradings = Table(
    "gradings",
    metadata,
    Column("run_id", ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("image_id", ForeignKey("images.image_id"), primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("status", String(16), nullable=False, server_default=Status.QUEUED),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    # How often the store refused this image; see `worker.inference.image_source`.
    Column("refusals", SmallInteger, nullable=False, server_default=text("0")),
    Column("lease_token", String(36), nullable=True),
    # Seconds since 1970 on the database clock: end of the lease, or when the reconciler may send the image again.
    Column("due_at", Float(53), nullable=False),
    Column("grade", SmallInteger, nullable=True),
    *(Column(name, REAL, nullable=True) for name in OUTPUTS),
    Column("referable", Boolean, nullable=True),
    Column("flags", String(128), nullable=True),
    # Standard deviation of the expected grades of an ensemble's members, 0 to 2.
    Column("disagreement", REAL, nullable=True),
    # Distance from the training photographs, above 1 for 2 % of held-out ones; NULL for a model without feature space.
    Column("unfamiliarity", REAL, nullable=True),
    # float16 in row-major order; 7 x 7 for a 224 px DenseNet-121.
    Column("saliency", LargeBinary, nullable=True),
    # Logits at the maximum of the saliency, and those that are shown at full strength; NULL if unknown.
    Column("evidence", REAL, nullable=True),
    Column("evidence_scale", REAL, nullable=True),
    Column("model_id", String(64), ForeignKey("models.model_id"), nullable=True),
    # NULL for images that a version before this table settled, or no worker.
    Column("configuration_id", String(16), ForeignKey("inference_configurations.configuration_id"), nullable=True),
    Column("overlay_key", Text, nullable=True),
    # Identity of the fetched bytes, see `ContentId`; NULL if none were fetched or an earlier version settled the image.
    Column("content_sha256", String(64), nullable=True),
    Column("content_version", Text, nullable=True),
    # Set by retention: when it retired the overlay, and the key of an object that may still exist.
    Column("overlay_retired_at", UtcDateTime, nullable=True),
    Column("retired_key", Text, nullable=True),
    # Why a settled image has no grade, or which service failed a queued image last.
    Column("error_code", String(64), nullable=True),
    Column("error_detail", Text, nullable=True),
    Column("settled_at", UtcDateTime, nullable=True),
    # When the image began to wait; NULL in rows of version 0.1.
    Column("queued_at", UtcDateTime, nullable=True),
    # When a worker leased the image last; NULL in rows of versions before this column.
    Column("leased_at", UtcDateTime, nullable=True),
    _one_of("status", Status),
    CheckConstraint("grade BETWEEN 0 AND 4", name="grade_range"),
    *(CheckConstraint(f"{name} BETWEEN 0 AND 1", name=f"{name}_range") for name in OUTPUTS),
    CheckConstraint(
        "(status = 'graded') = (grade IS NOT NULL AND (overlay_key IS NOT NULL OR overlay_retired_at IS NOT NULL)"
        " AND saliency IS NOT NULL AND model_id IS NOT NULL AND p_ge4 IS NOT NULL AND referable IS NOT NULL)",
        name="graded_is_complete",
    ),
    CheckConstraint("(status = 'queued') = (settled_at IS NULL)", name="settled_has_time"),
    CheckConstraint(
        "status NOT IN ('failed', 'ungradable', 'quarantined') OR error_code IS NOT NULL",
        name="failure_has_code",
    ),
    CheckConstraint("status = 'queued' OR lease_token IS NULL", name="settled_holds_no_lease"),
    CheckConstraint("attempts >= 0", name="attempts_range"),
    Index("ix_gradings_progress", "run_id", "status", "grade"),
    Index(
        "ix_gradings_due",
        "due_at",
        postgresql_where=text("status = 'queued'"),
        sqlite_where=text("status = 'queued'"),
    ),
    # For the completion of a run: images are graded in the order of their positions, so that its last entry is the last
    # one to be queued. Entries of settled images stay in an index as long as a transaction can see them.
    Index(
        "ix_gradings_queued",
        "run_id",
        "position",
        postgresql_where=text("status = 'queued'"),
        sqlite_where=text("status = 'queued'"),
    ),
    Index("ix_gradings_image", "image_id"),
    Index(
        "ix_gradings_retired",
        "run_id",
        postgresql_where=text("retired_key IS NOT NULL"),
        sqlite_where=text("retired_key IS NOT NULL"),
    ),
    # For the throughput of a run; without it, the status of a run of a million images scans the whole table.
    Index(
        "ix_gradings_settled",
        "run_id",
        "settled_at",
        postgresql_where=text("settled_at IS NOT NULL"),
        sqlite_where=text("settled_at IS NOT NULL"),
    ),
)

# One run for each programme and date.
nights = Table(
    "nights",
    metadata,
    Column("run_id", ForeignKey("runs.run_id"), primary_key=True),
    Column("programme", String(64), nullable=False),
    Column("night", Date, nullable=False),
    # The newest modification time of the source's images.
    Column("watermark", UtcDateTime, nullable=True),
    # When drift and report were done, and when the alert was sent (`told_at`) if there are findings.
    Column("closed_at", UtcDateTime, nullable=True),
    Column("verdict", String(16), nullable=True),
    Column("findings", JSON, nullable=True),
    Column("told_at", UtcDateTime, nullable=True),
    Index("ix_nights_night", "programme", "night", unique=True),
)

# The image versions that a programme has enqueued. Rows outlive their images, so that an image that retention deleted
# is not graded again.
seen_images = Table(
    "sightings",
    metadata,
    Column("programme", String(64), primary_key=True),
    Column("image_id", String(128), primary_key=True),
    # ETag of an object, time and size of a file, or SHA-256 from a manifest; NULL if the source has no version.
    Column("version", String(128), nullable=True),
    Column("run_id", ForeignKey("runs.run_id"), nullable=False),
)

# Verdicts about models on a site's own photographs; the latest one of a site and a model counts.
site_acceptances = Table(
    "site_acceptances",
    metadata,
    Column("acceptance_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("site", String(64), nullable=False),
    Column("model_id", String(64), ForeignKey("models.model_id"), nullable=False),
    Column("run_id", ForeignKey("runs.run_id"), nullable=False),
    # Ids of the inference configurations that graded the run, a list; empty if none is recorded.
    Column("configurations", JSON, nullable=False),
    # Photographs that were evaluated.
    Column("images", Integer, nullable=False),
    # For each metric: value, ends of its interval, counts, and the least value that was required.
    Column("figures", JSON, nullable=False),
    Column("accepted", Boolean, nullable=False),
    Column("decided_by", String(255), nullable=False),
    Column("decided_at", UtcDateTime, nullable=False),
    Index("ix_site_acceptances_model", "site", "model_id"),
)

# When a duty was last done; see `duty_record`.
duties = Table(
    "duties",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("finished_at", UtcDateTime, nullable=False),
)

RECONCILER_LOCK = "reconciler"
"""Name of the reconciler's lock. Every worker tries to acquire it, so it is held while any worker runs."""

locks = Table(
    "locks",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(36), nullable=False),
    # Seconds since 1970 on the database clock.
    Column("until", Float(53), nullable=False),
)

# Workers that have started within a day; see `worker_presence`.
workers = Table(
    "workers",
    metadata,
    Column("worker_id", String(36), primary_key=True),
    # NULL until the worker has loaded its model.
    Column("model_id", String(64), ForeignKey("models.model_id"), nullable=True),
    # What the worker computes in; NULL until then.
    Column("precision", String(16), nullable=True),
    # As in FUNDUS_QUEUES.
    Column("queues", String(64), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    # Seconds since 1970 on the database clock; a running worker postpones it.
    Column("until", Float(53), nullable=False),
    # Set when the worker ends as it should.
    Column("stopped_at", UtcDateTime, nullable=True),
)

# One row for each run with a pending or written report; see `report_leases`.
reports = Table(
    "reports",
    metadata,
    Column("run_id", ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    # Key prefix in the overlay store, set before the first object is written.
    Column("prefix", Text, nullable=True),
    # Seconds since 1970 on the database clock: end of the lease, or when the report is due; NULL when none is pending.
    Column("due_at", Float(53), nullable=True),
    Column("lease_token", String(36), nullable=True),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("written_at", UtcDateTime, nullable=True),
    CheckConstraint("attempts >= 0", name="attempts_range"),
    CheckConstraint("written_at IS NULL OR prefix IS NOT NULL", name="written_has_place"),
)

# One row: the oldest schema revision of a program that may use the ledger; see `migrate`.
compatibility = Table("compatibility", metadata, Column("oldest_level", String(32), primary_key=True))

# Append-only: triggers refuse updates and deletes.
audit_log = Table(
    "audit",
    metadata,
    Column("audit_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("action", String(32), nullable=False),
    # The name instead of a foreign key, so that runs can be deleted.
    Column("run", String(128), nullable=True),
    Column("details", JSON, nullable=False),
    Column("version", String(32), nullable=False),
    Index("ix_audit_run", "run"),
)
