"""Bring the ledger's schema to the level of this code, and say whether this code may use it.

A program may use a ledger of its own level, and a newer one that still serves its level: migrations that only expand
the schema leave `compatibility` alone, one that contracts it names the oldest level that is left.
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
from worker.ledger.database import connect, read_transaction, write_transaction
from worker.ledger.schema import compatibility

MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class Levels:
    """`ledger`: its level, None when it is empty. `program`: the level that this version brings a ledger to.

    `known`: the levels that this version has migrations for. `oldest`: of a ledger that is at none of them, the oldest
    level of a program that it serves; None where it does not say.
    """

    ledger: str | None
    program: str
    known: frozenset[str]
    oldest: str | None

    @property
    def is_newer(self) -> bool:
        """Whether the ledger was migrated by a version that this one does not know."""
        return self.ledger is not None and self.ledger not in self.known

    @property
    def is_served(self) -> bool:
        """Whether this version may use the ledger."""
        return self.ledger == self.program or (self.is_newer and self.oldest in self.known)

    @property
    def fault(self) -> str:
        """What is wrong when it is not."""
        if not self.is_newer:
            return f"the database is at level {self.ledger or 'none'}, this version needs {self.program}"
        serves = f" and serves programs from level {self.oldest} on" if self.oldest else ""
        return f"the database is at level {self.ledger}{serves}, this version is of {self.program}"

    @property
    def remedy(self) -> str:
        """How to mend it."""
        return "install a newer version" if self.is_newer else "run `fundus db upgrade`"


def upgrade(engine: Engine) -> None:
    """Apply every migration that is missing, in one transaction; two migrators take turns.

    Nothing is missing where a newer version has migrated the ledger. Raises UsageError if that serves this one no more.
    """
    if read_levels(engine).is_newer:
        require_current(engine)
        return
    config = _config()
    with write_transaction(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def read_levels(engine: Engine) -> Levels:
    """Where the ledger and this code are."""
    scripts = ScriptDirectory.from_config(_config())
    program = _head(scripts)
    known = frozenset(script.revision for script in scripts.walk_revisions())
    with read_transaction(engine) as connection:
        ledger = MigrationContext.configure(connection).get_current_revision()
        says = ledger not in known and inspect(connection).has_table(compatibility.name)
        oldest = connection.scalar(select(compatibility.c.oldest_level)) if says else None
    return Levels(ledger, program, known, oldest)


def describe_level() -> str:
    """The level this code needs, for people."""
    return f"level {_head(ScriptDirectory.from_config(_config()))}"


def require_current(engine: Engine) -> None:
    """Raises UsageError when the ledger's level is neither this code's nor a newer one that serves it."""
    levels = read_levels(engine)
    if not levels.is_served:
        raise UsageError(f"{levels.fault}: {levels.remedy}", code="schema_level")


def open_ledger(settings: Settings) -> Engine:
    """A connection to a ledger that serves this code. Raises UsageError for one that does not, DatabaseError."""
    engine = connect(settings)
    require_current(engine)
    return engine


def _head(scripts: ScriptDirectory) -> str:
    head = scripts.get_current_head()
    assert head is not None, "the package ships at least one migration"  # noqa: S101
    return head


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
