"""Migrations of a large ledger that is in use: no limit of time, and indexes that do not block writers."""

import shutil
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, text

from tests.unit.interleaving import Running, is_waiting_for_lock
from tests.unit.worker.ledger.ledger_rows import add_run, row
from worker.core.settings import parse_settings
from worker.ledger import migrate
from worker.ledger.database import connect, read_transaction, write_transaction
from worker.ledger.migrate import MIGRATIONS, read_schema_state, upgrade

HEADER = '''"""A later migration."""

from alembic import op

from worker.ledger.migrations.indexes import create_index

revision = "9001"
down_revision = "{head}"


def upgrade() -> None:
'''
INDEX = '    create_index("ix_gradings_later", "gradings", ["run_id"], where="attempts > 0")\n'
REPORT_LIMITS = """    op.execute(
        "CREATE TABLE limits AS SELECT current_setting('statement_timeout') AS statement,"
        " current_setting('idle_in_transaction_session_timeout') AS idle"
    )
"""


@pytest.fixture
def ledger(postgres_url: str) -> Engine:
    return connect(parse_settings(database_url=postgres_url))


@pytest.fixture
def add_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Engine) -> Callable[[str], None]:
    """Function that adds a migration with these statements to those of this version."""
    head = read_schema_state(ledger).required

    def add(statements: str) -> None:
        folder = tmp_path / "migrations"
        shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "versions" / "9001_later.py").write_text(HEADER.format(head=head) + statements)
        monkeypatch.setattr(migrate, "MIGRATIONS", folder)

    return add


def is_valid(engine: Engine, index: str) -> bool | None:
    query = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:index)")
    with read_transaction(engine) as connection:
        return connection.scalar(query, {"index": index})


def test_migration_has_no_limit_of_time(ledger: Engine, add_migration: Callable[[str], None]) -> None:
    add_migration(REPORT_LIMITS)
    upgrade(ledger)
    with read_transaction(ledger) as connection:
        assert connection.execute(text("SELECT * FROM limits")).one() == ("0", "0")
    ledger.dispose()


def test_workers_write_while_an_index_is_built(
    ledger: Engine, postgres_url: str, add_migration: Callable[[str], None]
) -> None:
    """The index waits for the open transaction of one worker; without CONCURRENTLY, all others would wait for it."""
    add_migration(INDEX)
    add_run(ledger, ["a", "b"])
    with write_transaction(ledger) as connection:
        connection.execute(text("UPDATE gradings SET attempts = 1 WHERE image_id = 'a'"))
        migration = Running(upgrade, ledger)
        while not is_waiting_for_lock(ledger):
            migration.check_time()
            assert not migration.wait(0.01)
        with psycopg.connect(postgres_url, options="-c lock_timeout=5s") as worker:
            worker.execute("UPDATE gradings SET attempts = 2 WHERE image_id = 'b'")
    assert migration.result() is None
    assert row(ledger, "b").attempts == 2
    assert is_valid(ledger, "ix_gradings_later")
    assert read_schema_state(ledger).revision == "9001"
    ledger.dispose()


def test_index_that_an_interrupted_migration_left_is_replaced(
    ledger: Engine, add_migration: Callable[[str], None]
) -> None:
    add_migration(INDEX)
    with write_transaction(ledger) as connection:
        connection.execute(text("CREATE INDEX ix_gradings_later ON gradings (run_id) WHERE attempts > 0"))
        connection.execute(
            text("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_gradings_later'::regclass")
        )
    upgrade(ledger)
    assert is_valid(ledger, "ix_gradings_later")
    ledger.dispose()


def test_migrators_wait_for_an_index_without_delaying_it(ledger: Engine, add_migration: Callable[[str], None]) -> None:
    add_migration(INDEX)
    add_run(ledger, ["a"])
    with write_transaction(ledger) as connection:
        connection.execute(text("UPDATE gradings SET attempts = 1"))
        migrators = [Running(upgrade, ledger) for _ in range(2)]
        while not is_waiting_for_lock(ledger):
            migrators[0].check_time()
    assert [migrator.result() for migrator in migrators] == [None, None]
    assert is_valid(ledger, "ix_gradings_later")
    ledger.dispose()


def test_later_migrations_build_indexes_of_existing_tables_concurrently() -> None:
    for file in sorted((MIGRATIONS / "versions").glob("[0-9]*.py")):
        source = file.read_text(encoding="utf-8")
        if file.name > "0015" and "op.create_index(" in source:
            assert "op.create_table(" in source, f"{file.name}: use worker.ledger.migrations.indexes.create_index"
