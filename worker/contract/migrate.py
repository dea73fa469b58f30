"""Bring the ledger's schema to the level of this code, and say which level it has."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from worker.contract.database import reading, writing
from worker.contract.errors import UsageError

MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(engine: Engine) -> None:
    """Apply every migration that is missing, in one transaction; two migrators take turns."""
    config = _config()
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def levels(engine: Engine) -> tuple[str | None, str]:
    """The ledger's level (none when empty) and the level this code needs."""
    with reading(engine) as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    return current, _head()


def describe_level() -> str:
    """The level this code needs, for people."""
    return f"level {_head()}"


def require_current(engine: Engine) -> None:
    """Raises UsageError when the ledger's level is not this code's."""
    current, head = levels(engine)
    if current != head:
        raise UsageError(
            f"the database is at level {current or 'none'}, this version needs {head}: run `fundus db upgrade`",
            code="schema_level",
        )


def _head() -> str:
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, "the package ships at least one migration"  # noqa: S101
    return head


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
