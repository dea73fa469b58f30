import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from producer.cli import app
from tests.unit.worker.console.accounts_and_runs import add_session_user
from worker.core.settings import parse_settings
from worker.core.vocabulary import AuditAction, Picture
from worker.ledger.audit_log import record_action
from worker.ledger.database import connect, write_transaction
from worker.ledger.photograph_views import record_view


@pytest.fixture
def audit_log(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Record three actions, two of them on the run `night`."""
    monkeypatch.setenv("FUNDUS_DATABASE_URL", sqlite_url)
    engine = connect(parse_settings())
    for action, run in ((AuditAction.ENQUEUE, "night"), (AuditAction.EXPORT, "other"), (AuditAction.CANCEL, "night")):
        with write_transaction(engine) as connection:
            record_action(connection, action, run=run, why="\x1b[2J")
    engine.dispose()


def print_audit(*arguments: str) -> str:
    done = CliRunner(env={"COLUMNS": "120"}).invoke(app, ["audit", *arguments])
    assert done.exit_code == 0
    return done.stdout


def test_json_prints_one_action_per_line_oldest_first(audit_log: None) -> None:
    entries = [json.loads(line) for line in print_audit("--json").splitlines()]
    assert [(entry["action"], entry["run"]) for entry in entries] == [
        ("enqueue", "night"), ("export", "other"), ("cancel", "night"),
    ]  # fmt: skip
    assert set(entries[0]) == {"at", "audit_id", "actor", "action", "run", "details", "version"}


def test_last_and_run_filter_the_log(audit_log: None) -> None:
    assert [
        json.loads(line)["action"] for line in print_audit("--json", "--run", "night", "--last", "1").splitlines()
    ] == ["cancel"]


def test_table_shows_the_actions_without_control_characters(audit_log: None) -> None:
    table = print_audit()
    assert [word in table for word in ("who", "enqueue", "export", "cancel", "night")] == [True] * 5
    assert "\x1b" not in table


def test_ledger_of_an_older_revision_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNDUS_DATABASE_URL", f"sqlite:///{tmp_path / 'blank.db'}")
    done = CliRunner().invoke(app, ["audit"])
    assert done.exit_code == 2
    assert "fundus db upgrade" in done.stderr


def test_views_of_photographs_are_listed(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNDUS_DATABASE_URL", sqlite_url)
    engine = connect(parse_settings())
    add_session_user(engine, "anna")
    record_view(engine, viewer="anna", run="night", image_id="a", picture=Picture.OVERLAY)
    engine.dispose()
    (entry,) = map(json.loads, print_audit("--views", "--json", "--run", "night").splitlines())
    assert set(entry) == {"at", "view_id", "viewer", "run", "image_id", "picture"}
    assert [word in print_audit("--views") for word in ("anna", "overlay", "night")] == [True] * 3
