"""Tables of the review by readers: users, sessions, views, decisions and the review state of each image."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    Text,
    false,
    text,
)

from worker.core.vocabulary import Assistance, ReviewState
from worker.ledger.schema import UtcDateTime, metadata

MAX_USER_CHARS = 64
MAX_REASON_CHARS = 2000

users = Table(
    "users",
    metadata,
    # Never changed or deleted: decisions refer to it.
    Column("name", String(MAX_USER_CHARS), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("password_hash", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("disabled_at", UtcDateTime, nullable=True),
    CheckConstraint("role IN ('viewer', 'grader', 'operator')", name="role_known"),
)

sessions = Table(
    "sessions",
    metadata,
    # Hash of the cookie's secret: a person who can read the ledger cannot use the sessions in it.
    Column("token_sha256", String(64), primary_key=True),
    Column("name", String(MAX_USER_CHARS), ForeignKey("users.name"), nullable=False),
    # Both in seconds since 1970 on the database clock.
    Column("began_at", Float(53), nullable=False),
    Column("seen_at", Float(53), nullable=False),
    Index("ix_sessions_name", "name"),
)

sign_in_attempts = Table(
    "sign_in_attempts",
    metadata,
    Column("attempt_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    # SHA-256 of the name that was typed: users sometimes type their password there.
    Column("name_sha256", String(64), nullable=False),
    Column("address", String(64), nullable=False),
    # Seconds since 1970 on the database clock.
    Column("at", Float(53), nullable=False),
    Index("ix_sign_in_attempts_at", "at"),
)

reading_rules = Table(
    "reading_rules",
    metadata,
    Column("run_id", ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("readers", SmallInteger, nullable=False),
    # Which readers see the model's result before they decide; see `Assistance`.
    Column("assistance", String(16), nullable=False, server_default=Assistance.FIRST),
    CheckConstraint("readers IN (1, 2)", name="readers_range"),
)

# Append-only: triggers refuse updates and deletes. The run has no foreign key because a run may be deleted and its
# decisions may not. Both its id and its name are stored because either of them could be used again.
decisions = Table(
    "decisions",
    metadata,
    Column("decision_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("run_id", BigInteger, nullable=False),
    Column("run", String(128), nullable=False),
    Column("image_id", String(128), nullable=False),
    Column("reader", String(MAX_USER_CHARS), ForeignKey("users.name"), nullable=False),
    Column("kind", String(16), nullable=False),
    # NULL: the reader found the image ungradable.
    Column("grade", SmallInteger, nullable=True),
    Column("reason", Text, nullable=False),
    # The outcome that the reader was shown, or that was hidden from them if `unassisted`.
    Column("seen_status", String(16), nullable=False),
    Column("seen_grade", SmallInteger, nullable=True),
    Column("seen_model_id", String(64), nullable=True),
    Column("at", UtcDateTime, nullable=False),
    Column("version", String(32), nullable=False),
    # Hash of the photograph that the reader was shown; NULL if it could not be displayed.
    Column("seen_sha256", String(64), nullable=True),
    # What the reader reports next to the grade, words separated by commas; NULL in rows of earlier versions, as below.
    Column("findings", String(128), nullable=True),
    # Whether the reader decided without having seen the model's result.
    Column("unassisted", Boolean, nullable=True),
    # Time from opening the page to the decision.
    Column("seconds", Float(53), nullable=True),
    CheckConstraint("kind IN ('reading', 'arbitration')", name="kind_known"),
    CheckConstraint("grade BETWEEN 0 AND 4", name="grade_range"),
    CheckConstraint(f"length(reason) <= {MAX_REASON_CHARS}", name="reason_length"),
    Index("ix_decisions_image", "run_id", "image_id"),
)

# A reader takes back an own decision, which then counts no longer. Append-only, as the decisions are.
withdrawals = Table(
    "withdrawals",
    metadata,
    Column("decision_id", ForeignKey("decisions.decision_id"), primary_key=True),
    Column("reader", String(MAX_USER_CHARS), ForeignKey("users.name"), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("version", String(32), nullable=False),
)

# What a reader did with an image apart from deciding.
reader_images = Table(
    "reader_images",
    metadata,
    Column("run_id", ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("reader", String(MAX_USER_CHARS), ForeignKey("users.name"), primary_key=True),
    Column("image_id", String(128), primary_key=True),
    # When the reader put it off.
    Column("skipped_at", UtcDateTime, nullable=True),
    # When the reader first saw the model's result, and decisions of others; recorded where they are hidden at first.
    Column("result_seen_at", UtcDateTime, nullable=True),
    Column("decisions_seen_at", UtcDateTime, nullable=True),
    Index("ix_reader_images_image", "image_id"),
)

# Derived from the decisions and the run's reading rule; stored because deriving it for each page is too slow.
reviews = Table(
    "reviews",
    metadata,
    Column("run_id", ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("image_id", String(128), primary_key=True),
    Column("state", String(16), nullable=False, server_default=ReviewState.UNREAD),
    # The readers' grade; NULL also when they found the image ungradable or the review is unfinished.
    Column("grade", SmallInteger, nullable=True),
    Column("decided_by", String(255), nullable=True),
    Column("decided_at", UtcDateTime, nullable=True),
    # Whether a decision differs from the model's grade.
    Column("differs", Boolean, nullable=False, server_default=false()),
    # The reader who has the image open, and the end of that lease in seconds since 1970 on the database clock.
    Column("leased_by", String(MAX_USER_CHARS), nullable=True),
    Column("leased_until", Float(53), nullable=True),
    CheckConstraint("state IN ('unread', 'half_read', 'disputed', 'read', 'arbitrated')", name="state_known"),
    CheckConstraint("grade BETWEEN 0 AND 4", name="grade_range"),
    Index("ix_reviews_state", "run_id", "state", "image_id"),
    # Few rows, queried often.
    Index(
        "ix_reviews_leased",
        "leased_by",
        postgresql_where=text("leased_by IS NOT NULL"),
        sqlite_where=text("leased_by IS NOT NULL"),
    ),
)

# No row is changed (a trigger refuses it); retention deletes old ones. The run is named as in the audit log.
photograph_views = Table(
    "photograph_views",
    metadata,
    Column("view_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("viewer", String(MAX_USER_CHARS), ForeignKey("users.name"), nullable=False),
    Column("run", String(128), nullable=False),
    Column("image_id", String(128), nullable=False),
    Column("picture", String(16), nullable=False),
    CheckConstraint("picture IN ('photograph', 'overlay')", name="picture_known"),
    Index("ix_photograph_views_at", "at"),
)
