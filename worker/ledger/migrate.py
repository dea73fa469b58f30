"""Migrate the ledger's schema, and check that this version of the program can use it.

A program works with a ledger at its own schema revision, and with a newer one whose minimum revision it knows. The
table `compatibility` holds the minimum: a migration that expands the schema leaves it unchanged, one that contracts the
schema raises it.
"""

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, select

from worker.core.errors import UsageError
from worker.core.settings import Settings
from worker.ledger.database import connect, migration_connection, read_transaction
from worker.ledger.schema import compatibility
from worker.ledger.sqlite_file import create_file, find_missing_file

MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class SchemaState:
    """Schema revision of a ledger, compared with the revisions that this version knows.

    revision: of the ledger; None when it is empty. required: the revision that this version migrates to. known: the
    revisions that this version has migrations for. minimum: the oldest program revision that a newer ledger supports;
    None when the ledger is not newer or names no minimum. missing_file: the SQLite file, if it does not exist.
    """

    revision: str | None
    required: str
    known: frozenset[str]
    minimum: str | None
    missing_file: Path | None = None

    @property
    def is_newer(self) -> bool:
        """Whether a newer version has migrated the ledger, to a revision that this version does not know."""
        return self.revision is not None and self.revision not in self.known

    @property
    def is_compatible(self) -> bool:
        """Whether this version may use the ledger."""
        return self.revision == self.required or (self.is_newer and self.minimum in self.known)

    @property
    def problem(self) -> str:
        """Why this version may not use the ledger."""
        if self.missing_file is not None:
            return f"there is no ledger at {self.missing_file}"
        if self.revision is None:
            return f"the database has no ledger schema, this version needs schema revision {self.required}"
        found = f"the database is at schema revision {self.revision}"
        if not self.is_newer:
            return f"{found}, this version needs {self.required}"
        minimum = f" and supports programs from revision {self.minimum} on" if self.minimum else ""
        return f"{found}{minimum}, this version has {self.required}"

    @property
    def remedy(self) -> str:
        """How to fix the problem."""
        if self.missing_file is not None:
            return "run `fundus db upgrade` or correct FUNDUS_DATABASE_URL"
        return "install a newer version" if self.is_newer else "run `fundus db upgrade`"


def upgrade(engine: Engine) -> None:
    """Apply all pending migrations; concurrent migrators run one after the other.

    Each migration has a transaction of its own on PostgreSQL, and all have one on SQLite; a failed one is rolled back.

    A missing SQLite file is created for its owner alone, and other users lose their rights to an existing one.
    Do nothing to a ledger that a newer version has migrated. Raises UsageError when that ledger no longer supports this
    version, DatabaseError.
    """
    create_file(engine)
    if read_schema_state(engine).is_newer:
        require_compatible(engine)
        return
    config = _config()
    with migration_connection(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def read_schema_state(engine: Engine) -> SchemaState:
    """Read the ledger's schema revision; create nothing. Raises DatabaseError."""
    scripts = ScriptDirectory.from_config(_config())
    required = _head(scripts)
    known = frozenset(script.revision for script in scripts.walk_revisions())
    if file := find_missing_file(engine):
        return SchemaState(None, required, known, None, file)
    with read_transaction(engine) as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
        has_minimum = revision not in known and inspect(connection).has_table(compatibility.name)
        minimum = connection.scalar(select(compatibility.c.oldest_level)) if has_minimum else None
    return SchemaState(revision, required, known, minimum)


def describe_required_revision() -> str:
    """Return the schema revision that this version needs, as text for people."""
    return f"schema revision {_head(ScriptDirectory.from_config(_config()))}"


def require_compatible(engine: Engine) -> None:
    """Check that this version may use the ledger. Raises UsageError (`schema_level`) when it may not, DatabaseError."""
    schema = read_schema_state(engine)
    if not schema.is_compatible:
        raise UsageError(f"{schema.problem}: {schema.remedy}", code="schema_level")


def open_ledger(settings: Settings) -> Engine:
    """Return an engine for a ledger that this version may use. Raises UsageError, DatabaseError or SettingsError."""
    engine = connect(settings)
    require_compatible(engine)
    return engine


def _head(scripts: ScriptDirectory) -> str:
    head = scripts.get_current_head()
    assert head is not None, "the package ships at least one migration"  # noqa: S101
    return head


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
