"""The tables of people who read images: users and their sessions, decisions, and where each image's reading stands."""

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

from worker.core.vocabulary import Review
from worker.ledger.schema import UtcDateTime, metadata

MAX_USER_CHARS = 64
MAX_REASON_CHARS = 2000

users = Table(
    "users",
    metadata,
    # Never changed and never deleted: it stands in decisions.
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
    # Of the cookie's secret: who reads the ledger can't be anybody.
    Column("token_sha256", String(64), primary_key=True),
    Column("name", String(MAX_USER_CHARS), ForeignKey("users.name"), nullable=False),
    # Both in seconds since 1970 on the database's clock.
    Column("began_at", Float(53), nullable=False),
    Column("seen_at", Float(53), nullable=False),
    Index("ix_sessions_name", "name"),
)

sign_in_attempts = Table(
    "sign_in_attempts",
    metadata,
    Column("attempt_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    # SHA-256 of what was typed as a name, which may have been a password.
    Column("name_sha256", String(64), nullable=False),
    Column("address", String(64), nullable=False),
    # Seconds since 1970 on the database's clock.
    Column("at", Float(53), nullable=False),
    Index("ix_sign_in_attempts_at", "at"),
)

reading_rules = Table(
    "reading_rules",
    metadata,
    Column("run_id", ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("readers", SmallInteger, nullable=False),
    CheckConstraint("readers IN (1, 2)", name="readers_range"),
)

# What its triggers refuse, no code of ours asks for. A run's name and number, and no key: a run may be deleted one day,
# what people decided may not, and neither alone is safe from being used again.
decisions = Table(
    "decisions",
    metadata,
    Column("decision_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("run_id", BigInteger, nullable=False),
    Column("run", String(128), nullable=False),
    Column("image_id", String(128), nullable=False),
    Column("reader", String(MAX_USER_CHARS), ForeignKey("users.name"), nullable=False),
    Column("kind", String(16), nullable=False),
    # None: the reader can't grade the image.
    Column("grade", SmallInteger, nullable=True),
    Column("reason", Text, nullable=False),
    # What the reader was shown as the outcome.
    Column("seen_status", String(16), nullable=False),
    Column("seen_grade", SmallInteger, nullable=True),
    Column("seen_model_id", String(64), nullable=True),
    Column("at", UtcDateTime, nullable=False),
    Column("version", String(32), nullable=False),
    CheckConstraint("kind IN ('reading', 'arbitration')", name="kind_known"),
    CheckConstraint("grade BETWEEN 0 AND 4", name="grade_range"),
    CheckConstraint(f"length(reason) <= {MAX_REASON_CHARS}", name="reason_length"),
    Index("ix_decisions_image", "run_id", "image_id"),
)

# Follows from the decisions and the run's rule, and is kept because counting anew takes too long on every page.
reviews = Table(
    "reviews",
    metadata,
    Column("run_id", ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("image_id", String(128), primary_key=True),
    Column("state", String(16), nullable=False, server_default=Review.UNREAD),
    # Of the people; None as well where they can't grade the image, or have not finished.
    Column("grade", SmallInteger, nullable=True),
    Column("decided_by", String(255), nullable=True),
    Column("decided_at", UtcDateTime, nullable=True),
    # Whether anybody decided otherwise than the model.
    Column("differs", Boolean, nullable=False, server_default=false()),
    # Who reads it at the moment, and until when, in seconds since 1970 on the database's clock.
    Column("leased_by", String(MAX_USER_CHARS), nullable=True),
    Column("leased_until", Float(53), nullable=True),
    CheckConstraint("state IN ('unread', 'half_read', 'disputed', 'read', 'arbitrated')", name="state_known"),
    CheckConstraint("grade BETWEEN 0 AND 4", name="grade_range"),
    Index("ix_reviews_state", "run_id", "state", "image_id"),
    # An image that waits for a person: few rows, asked for often.
    Index(
        "ix_reviews_leased",
        "leased_by",
        postgresql_where=text("leased_by IS NOT NULL"),
        sqlite_where=text("leased_by IS NOT NULL"),
    ),
)
