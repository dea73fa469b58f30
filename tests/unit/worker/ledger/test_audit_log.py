import os
import pwd
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from producer.runs.cancel import cancel
from producer.runs.enqueue import enqueue
from producer.runs.lifecycle import RunRequest
from worker import __version__
from worker.core.errors import DatabaseError, RunError
from worker.core.settings import Settings
from worker.core.storage.storage import Storage
from worker.core.vocabulary import AuditAction
from worker.ledger.audit_log import read_audit_log, record_action
from worker.ledger.database import write_transaction
from worker.ledger.export import export_run
from worker.ledger.export_formats import ExportFormat
from worker.ledger.leases import register_model
from worker.ledger.runs import find_run


@pytest.fixture
def with_entry(engine: Engine) -> Engine:
    with write_transaction(engine) as connection:
        record_action(connection, AuditAction.CANCEL, run="night", why="test")
    return engine


def entries(engine: Engine, run: str | None = None) -> list[tuple[object, ...]]:
    return [(row["action"], row["run"], row["details"]) for row in read_audit_log(engine, run=run, last=100)]


def test_entry_has_actor_time_and_version(with_entry: Engine) -> None:
    (entry,) = read_audit_log(with_entry, run=None, last=10)
    assert entry["actor"] == f"{pwd.getpwuid(os.getuid()).pw_name}@{socket.gethostname()}"
    assert entry["version"] == __version__
    assert abs((datetime.now(UTC) - datetime.fromisoformat(entry["at"])).total_seconds()) < 60
    assert (entry["audit_id"], entry["action"], entry["run"], entry["details"]) == (
        1,
        "cancel",
        "night",
        {"why": "test"},
    )


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit", "TRUNCATE audit"])
def test_audit_log_is_append_only(with_entry: Engine, statement: str) -> None:
    if statement.startswith("TRUNCATE") and with_entry.dialect.name == "sqlite":
        statement = "DELETE FROM audit WHERE audit_id = 1"
    with (
        pytest.raises((DBAPIError, DatabaseError), match="the audit trail is append-only"),
        write_transaction(with_entry) as connection,
    ):
        connection.execute(text(statement))
    assert entries(with_entry) == [("cancel", "night", {"why": "test"})]


def test_rolled_back_action_leaves_no_entry(engine: Engine) -> None:
    def record_and_fail() -> None:
        with write_transaction(engine) as connection:
            record_action(connection, AuditAction.CANCEL, run="night")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        record_and_fail()
    assert entries(engine) == []


def test_each_action_is_recorded(engine: Engine, make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    settings = make_settings()
    request = RunRequest(name="night", source="/photos")
    enqueue(engine, None, settings, request, iter(()), lambda _found, _new: None, may_be_empty=True)
    export_run(engine, Storage(settings).overlays, find_run(engine, "night"), ExportFormat.CSV, tmp_path / "night.csv")
    register_model(engine, "0123456789abcdef", "toy", {})
    register_model(engine, "0123456789abcdef", "toy", {})
    assert entries(engine) == [
        ("enqueue", "night", {"source": "/photos", "model_id": None}),
        ("seal", "night", {"found": 0, "new": 0, "messages": 0}),
        ("export", "night", {"format": "csv", "out": str(tmp_path / "night.csv")}),
        ("register_model", None, {"model_id": "0123456789abcdef", "name": "toy"}),
    ]
    assert len(entries(engine, "night")) == 3


def test_refused_cancel_is_not_recorded(engine: Engine, make_settings: Callable[..., Settings]) -> None:
    request = RunRequest(name="night", source="/photos")
    enqueue(engine, None, make_settings(), request, iter(()), lambda _found, _new: None, may_be_empty=True)
    with pytest.raises(RunError, match="is finished"):
        cancel(engine, "night")
    assert [action for action, _, _ in entries(engine)] == ["enqueue", "seal"]
