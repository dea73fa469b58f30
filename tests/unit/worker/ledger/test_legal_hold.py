import json
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from producer.cli import app
from tests.unit.producer.ledger_rows import add_model, change, grade, make_run, references
from worker.core.errors import RunError
from worker.core.settings import read_settings
from worker.ledger.audit_log import read_audit_log
from worker.ledger.legal_hold import HoldResult, set_legal_hold
from worker.ledger.migrate import open_ledger
from worker.ledger.runs import find_run


def test_hold_is_set_recorded_once_and_released(engine: Engine) -> None:
    make_run(engine, "night", references("a", "b"))
    for _ in range(2):
        assert set_legal_hold(engine, "night") == HoldResult("night", held=True, images=2, overlays_gone=0)
    assert find_run(engine, "night").held
    assert set_legal_hold(engine, "night", release=True) == HoldResult("night", held=False, images=2, overlays_gone=0)
    assert not find_run(engine, "night").held
    actions = [entry["action"] for entry in read_audit_log(engine, run="night", last=10)]
    assert actions == ["enqueue", "seal", "hold", "release"]


def test_hold_counts_overlays_that_are_gone(engine: Engine) -> None:
    add_model(engine)
    run = make_run(engine, "night", references("a", "b"))
    grade(engine, run, "a", 1)
    change(engine, run, "a", overlay_key=None, overlay_retired_at=datetime.now(UTC))
    assert set_legal_hold(engine, "night").overlays_gone == 1


def test_unknown_run_is_refused(engine: Engine) -> None:
    with pytest.raises(RunError, match="no run 'day'"):
        set_legal_hold(engine, "day")


def test_command_sets_and_releases_a_hold(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNDUS_DATABASE_URL", sqlite_url)
    make_run(open_ledger(read_settings()), "night", references("a"))
    for extra, held in (([], True), (["--release"], False)):
        done = CliRunner().invoke(app, ["hold", "night", "--json", *extra])
        assert json.loads(done.stdout) == {"run": "night", "held": held, "images": 1, "overlays_gone": 0}
        assert json.loads(CliRunner().invoke(app, ["status", "night", "--json"]).stdout)["held"] == held
    assert CliRunner().invoke(app, ["hold", "night"]).stdout == "night is held: 1 images\n"
    assert CliRunner().invoke(app, ["status", "night"]).stdout.startswith("night  running, held  bulk")
