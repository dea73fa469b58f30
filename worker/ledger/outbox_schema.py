"""Table of the outbox: what is to be published about which outcome, and whether it is."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    Text,
    false,
    text,
)

from worker.core.vocabulary import PublicationKind, PublicationState
from worker.ledger.schema import UtcDateTime, metadata

_IS_PENDING = text("state = 'pending'")

# A row is written in the transaction that settles the image or stores the decision. It ends with its outcome.
outbox = Table(
    "outbox",
    metadata,
    Column("outbox_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("run_id", BigInteger().with_variant(Integer, "sqlite"), nullable=False),
    Column("image_id", String(128), nullable=False),
    Column("kind", String(16), nullable=False),
    # The outcome that is published: an image that is graded again has another time.
    Column("settled_at", UtcDateTime, nullable=False),
    # The decision that made the readers' grade final; 0 for the model's outcome.
    Column("decision_id", BigInteger, nullable=False, server_default=text("0")),
    # Whether the object says that the decision was withdrawn.
    Column("withdrawn", Boolean, nullable=False, server_default=false()),
    # Identifier of the object, derived from the columns before.
    Column("uid", String(64), nullable=False),
    Column("state", String(16), nullable=False, server_default=PublicationState.PENDING),
    # Leases that ended without a result, as when the publisher was killed.
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    # Failures of a service; each one doubles the pause.
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("lease_token", String(36), nullable=True),
    # Seconds since 1970 on the database clock: end of the lease, or when it is to be published.
    Column("due_at", Float(53), nullable=False),
    # Why it is refused, or which service failed last.
    Column("error_code", String(64), nullable=True),
    Column("error_detail", Text, nullable=True),
    Column("queued_at", UtcDateTime, nullable=False),
    Column("published_at", UtcDateTime, nullable=True),
    # Also for programs that do not know this table: retention and erasure delete outcomes.
    ForeignKeyConstraint(["run_id", "image_id"], ["gradings.run_id", "gradings.image_id"], ondelete="CASCADE"),
    CheckConstraint(f"kind IN ({', '.join(repr(str(kind)) for kind in PublicationKind)})", name="kind_known"),
    CheckConstraint(f"state IN ({', '.join(repr(str(state)) for state in PublicationState)})", name="state_known"),
    CheckConstraint("(state = 'published') = (published_at IS NOT NULL)", name="published_has_time"),
    CheckConstraint("state <> 'refused' OR error_code IS NOT NULL", name="refusal_has_code"),
    CheckConstraint("state = 'pending' OR lease_token IS NULL", name="only_pending_is_leased"),
    CheckConstraint("attempts >= 0", name="attempts_range"),
    Index("ix_outbox_decision", "run_id", "image_id", "kind", "settled_at", "decision_id", "withdrawn", unique=True),
    Index("ix_outbox_due", "due_at", postgresql_where=_IS_PENDING, sqlite_where=_IS_PENDING),
    Index("ix_outbox_state", "run_id", "state", "kind"),
)
