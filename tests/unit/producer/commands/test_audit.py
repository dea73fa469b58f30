import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from producer.cli import app
from worker.core.settings import parse_settings
from worker.core.vocabulary import AuditAction
from worker.ledger.audit_log import record_action
from worker.ledger.database import connect, write_transaction


@pytest.fixture
def trail(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three deeds, two of them to the run `night`."""
    monkeypatch.setenv("FUNDUS_DATABASE_URL", sqlite_url)
    engine = connect(parse_settings())
    for action, run in ((AuditAction.ENQUEUE, "night"), (AuditAction.EXPORT, "other"), (AuditAction.CANCEL, "night")):
        with write_transaction(engine) as connection:
            record_action(connection, action, run=run, why="\x1b[2J")
    engine.dispose()


def shown(*arguments: str) -> str:
    done = CliRunner(env={"COLUMNS": "120"}).invoke(app, ["audit", *arguments])
    assert done.exit_code == 0
    return done.stdout


def test_json_gives_one_deed_a_line_oldest_first(trail: None) -> None:
    deeds = [json.loads(line) for line in shown("--json").splitlines()]
    assert [(deed["action"], deed["run"]) for deed in deeds] == [
        ("enqueue", "night"), ("export", "other"), ("cancel", "night"),
    ]  # fmt: skip
    assert set(deeds[0]) == {"at", "audit_id", "actor", "action", "run", "details", "version"}


def test_last_and_run_narrow_it(trail: None) -> None:
    assert [json.loads(line)["action"] for line in shown("--json", "--run", "night", "--last", "1").splitlines()] == [
        "cancel"
    ]


def test_table_shows_who_and_what_and_steers_no_terminal(trail: None) -> None:
    table = shown()
    assert [word in table for word in ("who", "enqueue", "export", "cancel", "night")] == [True] * 5
    assert "\x1b" not in table


def test_ledger_of_an_older_level_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNDUS_DATABASE_URL", f"sqlite:///{tmp_path / 'blank.db'}")
    done = CliRunner().invoke(app, ["audit"])
    assert done.exit_code == 2
    assert "fundus db upgrade" in done.stderr
