"""A program uses a ledger that a newer version has migrated."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from producer.cli import app
from producer.doctor.check import CheckStatus
from producer.doctor.database import check_database
from tests.unit.producer.ledger_rows import add_model, grade, make_run, references, rows_of
from tests.unit.worker.ledger.later_migrations import CONTRACTED, EXPANDED, migrate_to, write_later
from worker.core.errors import UsageError
from worker.core.settings import Settings
from worker.ledger.database import read_transaction, write_transaction
from worker.ledger.migrate import MIGRATIONS, read_schema_state, require_compatible, upgrade

FIRST_WITH_MINIMUM = "0008"
CONTRACTS = re.compile(r"drop_(table|column)|rename_table|alter_column|DROP (TABLE|COLUMN)|RENAME|SET NOT NULL")


def address_of(engine: Engine) -> str:
    return engine.url.set(drivername=engine.url.get_backend_name()).render_as_string(hide_password=False)


def test_expanded_ledger_is_usable(engine: Engine, tmp_path: Path) -> None:
    migrate_to(EXPANDED, engine, tmp_path / "later")
    require_compatible(engine)
    add_model(engine)
    run = make_run(engine, "night", references("a", "b"))
    grade(engine, run, "a", 2)
    assert {name: row.status for name, row in rows_of(engine, run).items()} == {"a": "graded", "b": "queued"}
    with read_transaction(engine) as connection:
        assert connection.exec_driver_sql("SELECT sum(priority) FROM gradings").scalar() == 2


def test_upgrade_by_an_older_version_does_not_change_a_newer_ledger(engine: Engine, tmp_path: Path) -> None:
    migrate_to(EXPANDED, engine, tmp_path / "later")
    upgrade(engine)
    assert read_schema_state(engine).revision == EXPANDED


def test_contracted_ledger_is_refused_with_both_revisions(engine: Engine, tmp_path: Path) -> None:
    migrate_to(CONTRACTED, engine, tmp_path / "later")
    own = read_schema_state(engine).required
    sentence = (
        f"the database is at schema revision {CONTRACTED} and supports programs from revision {EXPANDED} on, "
        f"this version has {own}: install a newer version"
    )
    for refused in (require_compatible, upgrade):
        with pytest.raises(UsageError) as caught:
            refused(engine)
        assert (caught.value.code, caught.value.detail) == ("schema_level", sentence)


def test_ledger_of_an_unknown_revision_without_a_minimum_is_refused(engine: Engine) -> None:
    with write_transaction(engine) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'abc'")
        connection.exec_driver_sql("DELETE FROM compatibility")
    own = read_schema_state(engine).required
    with pytest.raises(
        UsageError, match=rf"^the database is at schema revision abc, this version has {own}: install a newer"
    ):
        require_compatible(engine)
    with write_transaction(engine) as connection:
        connection.exec_driver_sql("DROP TABLE compatibility")
    assert not read_schema_state(engine).is_compatible


@pytest.mark.parametrize(("revision", "compatible"), [(EXPANDED, True), (CONTRACTED, False)])
def test_commands_report_whether_the_ledger_is_compatible(
    revision: str,
    compatible: bool,  # noqa: FBT001 - a parameter of the test
    engine: Engine,
    tmp_path: Path,
    make_settings: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    migrate_to(revision, engine, tmp_path / "later")
    monkeypatch.setenv("FUNDUS_DATABASE_URL", address_of(engine))
    own = read_schema_state(engine).required
    done = CliRunner().invoke(app, ["db", "current", "--json"])
    assert json.loads(done.stdout) == {"level": revision, "needed": own, "served": compatible}
    assert done.exit_code == (0 if compatible else 1)
    (check,) = check_database(make_settings(database_url=address_of(engine)))
    assert check.status == (CheckStatus.OK if compatible else CheckStatus.FAILED)
    assert f"at schema revision {revision}" in check.detail
    assert own in check.detail
    assert CliRunner().invoke(app, ["status"]).exit_code == (0 if compatible else 2)


def test_migration_that_contracts_sets_the_minimum_revision(tmp_path: Path) -> None:
    write_later(tmp_path)
    written = [path for path in (MIGRATIONS / "versions").glob("0*.py") if path.name[:4] > FIRST_WITH_MINIMUM]
    found = {}
    for path in (*written, *tmp_path.glob("*.py")):
        upgrade = path.read_text().partition("def upgrade()")[2].partition("def downgrade()")[0]
        found[path.name[:4]] = (CONTRACTS.search(upgrade) is not None, "set_minimum_revision(" in upgrade)
    assert (found[EXPANDED], found[CONTRACTED]) == ((False, False), (True, True))
    assert [revision for revision, (contracts, sets_minimum) in found.items() if contracts and not sets_minimum] == []
