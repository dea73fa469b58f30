"""Which reasons of readers expire; on both databases."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select

from tests.unit.producer.ledger_rows import make_run, references
from tests.unit.worker.console.accounts_and_runs import add_session_user
from worker.core.settings import Settings
from worker.ledger import reasons
from worker.ledger.audit_log import read_audit_log
from worker.ledger.database import read_transaction, write_transaction
from worker.ledger.legal_hold import set_legal_hold
from worker.ledger.retention import run_retention
from worker.ledger.retention_policy import cutoffs_at
from worker.ledger.review_schema import decisions

NOW = datetime.now(UTC)


@pytest.fixture
def settings(engine: Engine, make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    url = engine.url.render_as_string(hide_password=False)
    return make_settings(database_url=url, storage_url=(tmp_path / "store").as_uri(), retain_reasons_days=30)


@pytest.fixture
def decided(engine: Engine) -> Engine:
    """Decisions of anna in the runs `night` and `kept`: each an old and a new one with a reason."""
    add_session_user(engine, "anna")
    for name in ("night", "kept"):
        run = make_run(engine, name, references("a"))
        with write_transaction(engine) as connection:
            for days, reason in ((31, "old"), (29, "new"), (40, "older")):
                connection.execute(
                    insert(decisions).values(
                        run_id=run.run_id, run=name, image_id="a", reader="anna", kind="reading", grade=2,
                        reason=f"{name} {reason}", seen_status="graded", at=NOW - timedelta(days=days), version="1",
                    )
                )  # fmt: skip
    return engine


def reasons_of(engine: Engine) -> list[str]:
    with read_transaction(engine) as connection:
        return list(connection.scalars(select(decisions.c.reason).order_by(decisions.c.decision_id)))


def test_old_reasons_are_emptied_except_of_held_runs(
    decided: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reasons, "PAGE_REASONS", 1)
    set_legal_hold(decided, "kept")
    assert run_retention(settings, dry_run=True).reasons == 2
    assert run_retention(settings).reasons == 2
    assert reasons_of(decided) == ["", "night new", "", "kept old", "kept new", "kept older"]
    set_legal_hold(decided, "kept", release=True)
    assert run_retention(settings).reasons == 2
    assert run_retention(settings).reasons == 0
    erased = [e["details"] for e in read_audit_log(decided, run=None, last=99) if e["action"] == "erase_reasons"]
    assert erased == [{"reasons": 1}] * 4


def test_reasons_are_kept_without_a_maximum_age(decided: Engine, settings: Settings) -> None:
    assert run_retention(settings.model_copy(update={"retain_reasons_days": None})).reasons == 0
    assert "" not in reasons_of(decided)


def test_reasons_never_outlive_the_rows(make_settings: Callable[..., Settings]) -> None:
    def age(**days: int) -> int | None:
        cutoff = cutoffs_at(NOW, make_settings(**days)).reasons
        return None if cutoff is None else (NOW - cutoff).days

    assert age(retain_overlays_days=30) is None
    assert age(retain_rows_days=60) == 60
    assert age(retain_rows_days=60, retain_reasons_days=90) == 60
    assert age(retain_rows_days=60, retain_reasons_days=30) == 30
