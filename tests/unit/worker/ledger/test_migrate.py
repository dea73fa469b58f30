import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, inspect

from worker.core.errors import DatabaseError, UsageError
from worker.core.settings import parse_settings
from worker.ledger import migrate, review_schema
from worker.ledger.database import connect, read_transaction, write_transaction
from worker.ledger.migrate import read_schema_state, require_compatible, upgrade
from worker.ledger.schema import metadata

TABLES = {
    "models", "runs", "images", "gradings", "locks", "audit",
    "users", "sessions", "sign_in_attempts", "reading_rules", "decisions", "reviews", "photograph_views",
    "withdrawals", "reader_images",
    "nights", "sightings", "reports", "compatibility", "workers", "duties",
    "inference_configurations", "site_acceptances", "outbox",
}  # fmt: skip
assert review_schema.users.name in TABLES
MIGRATE = """
import sys
from worker.ledger.database import connect
from worker.ledger.migrate import upgrade
from worker.core.settings import parse_settings
upgrade(connect(parse_settings(database_url=sys.argv[1])))
"""


def describe(connection: Connection) -> dict[str, Any]:
    """Return all that the database reports about each table of the ledger, in a fixed order."""
    found = inspect(connection)
    # SQLite does not report the name of a foreign key that was added together with its column.
    reported = ("name",) if connection.dialect.name == "postgresql" else ()

    def ordered(parts: Iterable[Any], *keys: str) -> list[Any]:
        return sorted([str(part[key]) for key in keys] for part in parts)

    return {
        table: {
            "columns": ordered(found.get_columns(table), "name", "type", "nullable", "default"),
            "primary key": found.get_pk_constraint(table),
            "foreign keys": ordered(
                found.get_foreign_keys(table), *reported, "constrained_columns", "referred_table", "options"
            ),
            "unique": ordered(found.get_unique_constraints(table), "name", "column_names"),
            "checks": ordered(found.get_check_constraints(table), "name", "sqltext"),
            "indexes": sorted(
                [
                    index["name"],
                    index["column_names"],
                    {key: str(value) for key, value in index["dialect_options"].items()},
                ]
                for index in found.get_indexes(table)
            ),
        }
        for table in sorted(TABLES)
    }


def test_empty_database_has_no_schema_revision(blank_engine: Engine) -> None:
    schema = read_schema_state(blank_engine)
    assert schema.revision is None
    with pytest.raises(
        UsageError,
        match=rf"has no ledger schema, this version needs schema revision {schema.required}: run `fundus db upgrade`",
    ) as caught:
        require_compatible(blank_engine)
    assert caught.value.code == "schema_level"


def test_reading_creates_no_sqlite_file(tmp_path: Path) -> None:
    (folder := tmp_path / "100% #").mkdir()
    engine = connect(parse_settings(database_url=f"sqlite:///{folder / 'ledger.db'}"))

    assert read_schema_state(engine).revision is None
    with pytest.raises(UsageError, match=r"no ledger at .*/ledger\.db: run `fundus db upgrade`") as caught:
        require_compatible(engine)

    assert caught.value.code == "schema_level"
    assert list(folder.iterdir()) == []


def test_upgrade_creates_a_sqlite_file_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "100% #" / "ledger.db"
    file.parent.mkdir()
    engine = connect(parse_settings(database_url=f"sqlite:///{file}"))

    upgrade(engine)

    require_compatible(engine)
    assert {path.name: path.stat().st_mode & 0o777 for path in file.parent.iterdir()} == {
        "ledger.db": 0o600, "ledger.db-shm": 0o600, "ledger.db-wal": 0o600,
    }  # fmt: skip


def test_upgrade_takes_a_sqlite_file_from_other_users(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    file.touch(mode=0o666)
    file.chmod(0o664)

    upgrade(connect(parse_settings(database_url=f"sqlite:///{file}")))

    assert file.stat().st_mode & 0o777 == 0o660


def test_upgrade_in_a_missing_folder_is_a_database_error(tmp_path: Path) -> None:
    engine = connect(parse_settings(database_url=f"sqlite:///{tmp_path / 'no-folder' / 'ledger.db'}"))
    with pytest.raises(DatabaseError, match=r"cannot create .*/ledger\.db: No such file or directory"):
        upgrade(engine)


def test_upgrade_reaches_the_required_revision_and_is_idempotent(blank_engine: Engine) -> None:
    for _ in range(2):
        upgrade(blank_engine)
        schema = read_schema_state(blank_engine)
        assert schema.revision == schema.required
        require_compatible(blank_engine)


def test_alembic_finds_no_difference(engine: Engine) -> None:
    with read_transaction(engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_migrated_schema_equals_the_metadata(blank_engine: Engine) -> None:
    with write_transaction(blank_engine) as connection:
        metadata.create_all(connection)
        described = describe(connection)
        metadata.drop_all(connection)
    upgrade(blank_engine)
    with read_transaction(blank_engine) as connection:
        assert describe(connection) == described


@pytest.mark.parametrize("database", ["blank_sqlite_url", "blank_postgres_url"])
def test_concurrent_migrators_are_serialised(database: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(database)
    migrators = [
        subprocess.Popen([sys.executable, "-c", MIGRATE, url], stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    errors = [migrator.communicate(timeout=60)[1] for migrator in migrators]
    assert [migrator.returncode for migrator in migrators] == [0, 0], errors


def test_failed_migration_is_rolled_back(blank_engine: Engine) -> None:
    with write_transaction(blank_engine) as connection:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        # The second migration creates an index of this name, too.
        connection.exec_driver_sql("CREATE INDEX ix_gradings_settled ON gradings (run_id)")
    with pytest.raises(Exception, match="ix_gradings_settled"):
        upgrade(blank_engine)
    assert read_schema_state(blank_engine).revision == "0001"


def test_all_migrations_can_be_reverted_and_applied_again(engine: Engine) -> None:
    with write_transaction(engine) as connection:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    with read_transaction(engine) as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
    upgrade(engine)
    with read_transaction(engine) as connection:
        assert set(inspect(connection).get_table_names()) == {*TABLES, "alembic_version"}


def test_migration_0004_adds_existing_nights_and_keeps_outcomes(blank_engine: Engine) -> None:
    """Upgrade from revision 0003 with rows of every kind; SQLite recreates the table."""
    with write_transaction(blank_engine) as connection:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        for statement in REVISION_3:
            connection.exec_driver_sql(statement)
    before = outcomes(blank_engine)
    upgrade(blank_engine)
    assert outcomes(blank_engine) == before
    with read_transaction(blank_engine) as connection:
        found = connection.exec_driver_sql(
            "SELECT run_id, programme, CAST(night AS text), closed_at IS NULL, told_at IS NULL FROM nights ORDER BY 1"
        ).all()
        assert [tuple(row) for row in found] == [
            (2, "nightly", "2026-11-01", False, False),
            (3, "nightly", "2026-11-02", True, True),
        ]
        seen = connection.exec_driver_sql("SELECT image_id, run_id, version FROM sightings ORDER BY 1").all()
        assert [tuple(row) for row in seen] == [("a", 3, None), ("b", 2, None)]
    with pytest.raises(Exception, match="graded_is_complete"), write_transaction(blank_engine) as connection:
        connection.exec_driver_sql("UPDATE gradings SET overlay_key = NULL WHERE status = 'graded'")


def outcomes(engine: Engine) -> list[tuple[Any, ...]]:
    query = (
        "SELECT run_id, image_id, position, status, grade, p_ge4, overlay_key, error_code FROM gradings ORDER BY 1, 2"
    )
    with read_transaction(engine) as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


_TIME = "'2026-11-01 01:00:00'"
_GRADED = f"'graded', 2, 0.9, 0.5, true, 'ab', 'm', 'night/m/KEY.png', NULL, {_TIME}"
_QUEUED = "'queued', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL"
_OUTCOME = "status, grade, p_ge0, p_ge4, referable, saliency, model_id, overlay_key, error_code, settled_at"
REVISION_3 = [
    f"INSERT INTO models VALUES ('m', 'm', '{{}}', {_TIME})",
    *(f"INSERT INTO images VALUES ('{name}', 'file:///{name}', NULL, 'left', NULL, NULL, {_TIME})" for name in "abcd"),
    *(
        "INSERT INTO runs (run_id, name, kind, state, queue, source, chunk_size, created_at, finished_at)"
        f" VALUES ({number}, '{name}', '{kind}', '{state}', 'bulk', 'x', 8, {_TIME}, {finished})"
        for number, name, kind, state, finished in (
            (1, "by-hand", "manual", "finished", _TIME),
            (2, "nightly-2026-11-01", "nightly", "finished", _TIME),
            (3, "nightly-2026-11-02", "nightly", "running", "NULL"),
        )
    ),
    *(
        f"INSERT INTO gradings (run_id, image_id, position, due_at, {_OUTCOME})"
        f" VALUES ({run}, '{image}', 0, 0, {outcome})"
        for run, image, outcome in (
            (1, "a", _GRADED.replace("KEY", "1")),
            (2, "a", _GRADED.replace("KEY", "2")),
            (2, "b", f"'failed', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'image_missing', {_TIME}"),
            (2, "c", f"'cancelled', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, {_TIME}"),
            (3, "a", _QUEUED),
        )
    ),
]
