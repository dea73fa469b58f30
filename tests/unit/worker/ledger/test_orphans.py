"""Which objects retention deletes because no row knows them; on both databases and both stores."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from producer.runs.lifecycle import seal_run
from tests.unit.producer.ledger_rows import MODEL, add_model, change, fail, grade, make_run, references
from worker.core.settings import Settings
from worker.core.storage.object_store import ObjectStore
from worker.ledger import orphans
from worker.ledger.audit_log import read_audit_log
from worker.ledger.legal_hold import RETENTION_LOCK, set_legal_hold
from worker.ledger.locks import locked
from worker.ledger.report_leases import finish_report, request_report
from worker.ledger.retention import RetentionPass, run_retention
from worker.ledger.retention_policy import Cutoffs, PruneResult
from worker.ledger.runs import Run, find_run

NEVER = Cutoffs(overlays=None, rows=None)


@pytest.fixture
def settings(engine: Engine, store: ObjectStore, make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    return make_settings(database_url=engine.url.render_as_string(hide_password=False), service_retry_timeout_s=0.2)


@pytest.fixture
def _objects_are_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "MIN_AGE", timedelta(minutes=-1))


def put(store: ObjectStore, *keys: str) -> None:
    for key in keys:
        store.put(key, b"overlay", content_type="image/png", metadata={})


def keys_of(store: ObjectStore) -> list[str]:
    return sorted(item.key for item in store.list_objects("night/"))


def prune(engine: Engine, store: ObjectStore, settings: Settings) -> PruneResult:
    with locked(engine, RETENTION_LOCK, lock_s=60) as lock:
        return RetentionPass(engine, store, settings, NEVER, lock).run()


@pytest.fixture
def night(engine: Engine, store: ObjectStore) -> Run:
    """A finished run with a graded image `a`, a failed image `b` and a report."""
    add_model(engine)
    run = make_run(engine, "night", references("a", "b"))
    grade(engine, run, "a", 2)
    fail(engine, run, "b", "image_missing")
    seal_run(engine, run)
    put(store, f"night/{MODEL}/a.png", "night/report/index.html")
    finish_report(engine, request_report(engine, "night", lease_s=60), out="there")
    return find_run(engine, "night")


ORPHANS = (
    f"night/{MODEL}/a.jpg",
    f"night/{MODEL}/b.png",
    f"night/{MODEL}/gone.v1.png",
    "night/fedcba9876543210/a.png",
    f"night/{MODEL}/.part-0123",
)


@pytest.mark.usefixtures("_objects_are_old")
def test_objects_that_no_row_knows_are_deleted(
    engine: Engine, night: Run, store: ObjectStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "PAGE_OBJECTS", 2)
    known = keys_of(store)
    put(store, *ORPHANS, "night-2/report/index.html")
    assert run_retention(settings, dry_run=True) == PruneResult(0, 0, 0, (), orphans=5)
    assert prune(engine, store, settings) == PruneResult(0, 0, 0, (), orphans=5)
    assert keys_of(store) == known == [f"night/{MODEL}/a.png", "night/report/index.html"]
    assert store.get("night-2/report/index.html") == b"overlay"
    entries = [entry for entry in read_audit_log(engine, run="night", last=9) if entry["action"] == "delete_orphans"]
    assert sum(entry["details"]["objects"] for entry in entries) == 5


def test_young_object_is_kept(engine: Engine, night: Run, store: ObjectStore, settings: Settings) -> None:
    put(store, *ORPHANS)
    assert prune(engine, store, settings).orphans == 0
    assert set(ORPHANS) < set(keys_of(store))


@pytest.mark.usefixtures("_objects_are_old")
def test_objects_of_another_form_are_kept(engine: Engine, night: Run, store: ObjectStore, settings: Settings) -> None:
    others = ["night/README.txt", f"night/{MODEL}/notes/a.png", f"night/{MODEL}/a.tiff", "night/photographs/a.jpg"]
    put(store, *others)
    assert prune(engine, store, settings).orphans == 0
    assert set(others) < set(keys_of(store))


@pytest.mark.usefixtures("_objects_are_old")
def test_report_without_a_row_is_deleted(engine: Engine, store: ObjectStore, settings: Settings) -> None:
    run = make_run(engine, "night", references("a"))
    fail(engine, run, "a", "image_missing")
    seal_run(engine, run)
    put(store, "night/report/index.html", "night/report/images-1.js")
    assert prune(engine, store, settings).orphans == 2
    assert keys_of(store) == []


@pytest.mark.usefixtures("_objects_are_old")
def test_running_and_held_runs_keep_their_orphans(
    engine: Engine, night: Run, store: ObjectStore, settings: Settings
) -> None:
    put(store, *ORPHANS)
    set_legal_hold(engine, "night")
    assert prune(engine, store, settings).orphans == 0
    set_legal_hold(engine, "night", release=True)
    change(engine, night, "b", status="queued", error_code=None, settled_at=None)
    assert prune(engine, store, settings).orphans == 4  # all but the object of the queued image `b`
    assert f"night/{MODEL}/b.png" in keys_of(store)


@pytest.mark.usefixtures("_objects_are_old")
def test_object_of_a_run_that_is_reopened_after_the_listing_is_kept(
    engine: Engine, night: Run, store: ObjectStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_orphans = orphans.find_orphans

    def find_and_reopen(*arguments: object, **named: object) -> object:
        for page in find_orphans(*arguments, **named):
            make_run(engine, "night", references("late"))
            yield page

    monkeypatch.setattr("worker.ledger.retention.find_orphans", find_and_reopen)
    put(store, *ORPHANS)
    assert prune(engine, store, settings).orphans == 0
