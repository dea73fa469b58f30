"""What retention deletes, in which order, and what it keeps; on both databases and both stores."""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, update

from producer.runs.lifecycle import seal_run
from producer.runs.resend import resend
from tests.services.process import HUNG_AFTER_S
from tests.unit.interleaving import interleave
from tests.unit.producer.ledger_rows import add_model, fail, grade, lease, make_run, references, rows_of
from worker.core.errors import DatabaseError, FundusError, OverlapError, StorageError
from worker.core.messaging.broker import make_celery
from worker.core.settings import Settings, parse_settings
from worker.core.storage.folder_store import FolderStore
from worker.core.storage.object_store import ObjectStore
from worker.core.vocabulary import RunState, Status
from worker.ledger.audit_log import read_audit_log
from worker.ledger.database import connect, read_transaction, write_transaction
from worker.ledger.legal_hold import RETENTION_LOCK, set_legal_hold
from worker.ledger.locks import locked
from worker.ledger.report_leases import ReportLease, finish_report, release_report, request_report
from worker.ledger.retention import RetentionPass
from worker.ledger.retention_policy import Cutoffs, PruneResult, count_expired, cutoffs_at
from worker.ledger.runs import Run, find_run
from worker.ledger.schema import images, locks, reports

NOW = datetime(2026, 11, 22, tzinfo=UTC)
OLD, NEW = NOW - timedelta(days=100), NOW - timedelta(days=5)
BOTH = Cutoffs(overlays=NOW - timedelta(days=30), rows=NOW - timedelta(days=30))
OVERLAYS = Cutoffs(overlays=NOW - timedelta(days=30), rows=None)


@pytest.fixture
def settings(make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    return make_settings(reports_dir=tmp_path / "reports", service_retry_timeout_s=0.2)


@pytest.fixture
def folder_store(tmp_path: Path) -> ObjectStore:
    return FolderStore(tmp_path / "overlays")


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + HUNG_AFTER_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def make_graded(engine: Engine, store: ObjectStore, name: str, *names: str, at: datetime) -> Run:
    """Create a finished run whose images are all graded, with an overlay in the store."""
    run = make_run(engine, name, references(*names))
    for image_id in names:
        grade(engine, run, image_id, 2, at=at)
        store.put(rows_of(engine, run)[image_id].overlay_key, b"overlay", content_type="image/png", metadata={})
    seal_run(engine, run)
    return find_run(engine, name)


def prune(
    engine: Engine,
    store: ObjectStore,
    settings: Settings,
    cutoffs: Cutoffs,
    on_progress: Callable[[], object] = lambda: None,
) -> PruneResult:
    with locked(engine, RETENTION_LOCK, lock_s=60) as lock:
        return RetentionPass(engine, store, settings, cutoffs, lock, on_progress).run()


def exists(store: ObjectStore, run: Run, image_id: str) -> bool:
    try:
        store.get(f"{run.name}/0123456789abcdef/{image_id}.png")
    except KeyError:
        return False
    return True


def overlay_claims(engine: Engine, run: Run) -> dict[str, bool]:
    return {image_id: row.overlay_key is not None for image_id, row in rows_of(engine, run).items()}


def image_ids(engine: Engine) -> list[str]:
    with read_transaction(engine) as connection:
        return list(connection.scalars(select(images.c.image_id).order_by(images.c.image_id)))


def actions(engine: Engine) -> list[tuple[str, str, dict[str, Any]]]:
    entries = read_audit_log(engine, run=None, last=100)
    return [(e["action"], e["run"], e["details"]) for e in entries if e["action"] not in ("enqueue", "seal")]


@pytest.fixture
def old(engine: Engine, folder_store: ObjectStore) -> Run:
    add_model(engine)
    return make_graded(engine, folder_store, "old", "a", "b", at=OLD)


def test_expired_overlays_are_deleted_and_their_rows_marked(
    engine: Engine, store: ObjectStore, settings: Settings
) -> None:
    add_model(engine)
    old = make_graded(engine, store, "old", "a", "b", at=OLD)
    new = make_graded(engine, store, "new", "a", "c", at=NEW)

    assert prune(engine, store, settings, OVERLAYS) == PruneResult(overlays=2, rows=0, images=0, held=())

    assert overlay_claims(engine, old) == {"a": False, "b": False}
    assert [exists(store, old, name) for name in "ab"] == [False, False]
    assert [exists(store, new, name) for name in "ac"] == [True, True]
    row = rows_of(engine, old)["a"]
    assert (row.status, row.grade, row.retired_key, row.overlay_retired_at is None) == ("graded", 2, None, False)
    assert actions(engine) == [("retire_overlays", "old", {"images": 2})]
    assert prune(engine, store, settings, OVERLAYS) == PruneResult(0, 0, 0, ())


def test_expired_rows_are_deleted_with_images_that_no_other_run_has(
    engine: Engine, old: Run, folder_store: ObjectStore, settings: Settings
) -> None:
    new = make_graded(engine, folder_store, "new", "a", "c", at=NEW)

    assert prune(engine, folder_store, settings, BOTH) == PruneResult(overlays=2, rows=2, images=1, held=())

    assert rows_of(engine, old) == {}
    assert list(rows_of(engine, new)) == image_ids(engine) == ["a", "c"]
    assert find_run(engine, "old").state == RunState.FINISHED
    assert actions(engine)[-1] == ("delete_rows", "old", {"outcomes": 2, "images": 1})


def test_expired_outcomes_without_an_overlay_are_deleted(
    engine: Engine, folder_store: ObjectStore, settings: Settings
) -> None:
    run = make_run(engine, "old", references("a", "b"))
    fail(engine, run, "a", "image_missing", at=OLD)
    fail(engine, run, "b", "blurred", Status.UNGRADABLE, at=NEW)
    seal_run(engine, run)
    assert prune(engine, folder_store, settings, BOTH) == PruneResult(0, 1, 1, ())
    assert list(rows_of(engine, run)) == ["b"]


def test_running_run_is_not_pruned(engine: Engine, folder_store: ObjectStore, settings: Settings) -> None:
    add_model(engine)
    run = make_run(engine, "going", references("a", "b"))
    grade(engine, run, "a", 2, at=OLD)
    lease(engine, run, "b", seconds=60)
    assert prune(engine, folder_store, settings, BOTH) == PruneResult(0, 0, 0, ())
    assert overlay_claims(engine, run) == {"a": True, "b": False}


def test_held_run_is_not_pruned_until_it_is_released(
    engine: Engine, old: Run, folder_store: ObjectStore, settings: Settings
) -> None:
    assert set_legal_hold(engine, "old").held
    assert prune(engine, folder_store, settings, BOTH) == PruneResult(0, 0, 0, held=("old",))
    assert overlay_claims(engine, old) == {"a": True, "b": True}
    assert exists(folder_store, old, "a")

    assert not set_legal_hold(engine, "old", release=True).held
    assert prune(engine, folder_store, settings, BOTH) == PruneResult(2, 2, 2, ())
    assert [action for action, _, _ in actions(engine)] == ["hold", "release", "retire_overlays", "delete_rows"]


def test_hold_during_a_pass_stops_it_at_the_next_page(
    engine: Engine, old: Run, folder_store: ObjectStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.ledger.retention.PAGE_IMAGES", 1)
    callbacks = iter([lambda: None, lambda: set_legal_hold(engine, "old")])
    prune(engine, folder_store, settings, BOTH, on_progress=lambda: next(callbacks, lambda: None)())
    rows = rows_of(engine, old)
    assert [rows[name].retired_key is None for name in "ab"] == [False, False]
    assert [exists(folder_store, old, name) for name in "ab"] == [True, True]

    set_legal_hold(engine, "old", release=True)
    assert prune(engine, folder_store, settings, BOTH) == PruneResult(2, 2, 2, ())


class Killed(BaseException):
    """Simulates the end of the process; the program does not catch it."""


@pytest.mark.parametrize("pages", range(1, 7))
def test_pass_killed_after_any_page_stays_consistent_and_is_completed(
    engine: Engine,
    old: Run,
    folder_store: ObjectStore,
    settings: Settings,
    pages: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Six pages of one image: two retire overlays, two delete objects, two delete rows."""
    monkeypatch.setattr("worker.ledger.retention.PAGE_IMAGES", 1)
    done = iter(range(1, 100))

    def kill() -> None:
        if next(done) == pages:
            raise Killed

    with pytest.raises(Killed):
        prune(engine, folder_store, settings, BOTH, on_progress=kill)
    check_consistent(engine, folder_store, old)
    prune(engine, folder_store, settings, BOTH)
    assert rows_of(engine, old) == {}
    assert image_ids(engine) == []
    assert not any(exists(folder_store, old, name) for name in "ab")
    deletions = [details for action, _, details in actions(engine) if action == "delete_rows"]
    assert sum(details["outcomes"] for details in deletions) == sum(details["images"] for details in deletions) == 2


def test_pass_killed_while_it_deletes_an_object_stays_consistent(
    engine: Engine, old: Run, folder_store: ObjectStore, settings: Settings
) -> None:
    class KilledOnDelete(FolderStore):
        def delete(self, key: str) -> None:
            super().delete(key)
            raise Killed

    with pytest.raises(Killed):
        prune(engine, KilledOnDelete(folder_store.root), settings, BOTH)
    assert [exists(folder_store, old, name) for name in "ab"] != [True, True]
    check_consistent(engine, folder_store, old)
    assert prune(engine, folder_store, settings, BOTH) == PruneResult(2, 2, 2, ())


def check_consistent(engine: Engine, store: ObjectStore, run: Run) -> None:
    """Check that every overlay key has its object, and every object a row with its key."""
    rows = rows_of(engine, run)
    for image_id in "ab":
        row = rows.get(image_id)
        if row is not None and row.overlay_key is not None:
            assert exists(store, run, image_id)
        if exists(store, run, image_id):
            assert row is not None
            assert (row.overlay_key or row.retired_key) is not None


def test_unavailable_store_keeps_the_rows(engine: Engine, old: Run, tmp_path: Path, settings: Settings) -> None:
    class Unavailable(FolderStore):
        def delete(self, key: str) -> None:
            raise StorageError(f"unavailable: {key}")

    store = FolderStore(tmp_path / "overlays")
    with pytest.raises(StorageError, match="unavailable: old"):
        prune(engine, Unavailable(store.root), settings, BOTH)
    assert len(rows_of(engine, old)) == 2
    assert prune(engine, store, settings, BOTH) == PruneResult(2, 2, 2, ())


def test_lost_lock_stops_the_pass(engine: Engine, old: Run, folder_store: ObjectStore, settings: Settings) -> None:
    def steal() -> None:
        with write_transaction(engine) as connection:
            connection.execute(update(locks).values(holder="thief"))

    with pytest.raises(OverlapError, match="lock 'retention' was lost"):
        prune(engine, folder_store, settings, BOTH, on_progress=steal)


def test_dry_run_counts_and_changes_nothing(
    engine: Engine, old: Run, folder_store: ObjectStore, settings: Settings
) -> None:
    make_graded(engine, folder_store, "new", "a", "c", at=NEW)
    make_graded(engine, folder_store, "kept", "d", at=OLD)
    set_legal_hold(engine, "kept")
    for cutoffs in (OVERLAYS, BOTH):
        counted = count_expired(engine, cutoffs)
        assert count_expired(engine, cutoffs) == counted
        assert counted.held == ("kept",)
        assert prune(engine, folder_store, settings, cutoffs).rows == counted.rows
    assert counted == PruneResult(overlays=0, rows=2, images=1, held=("kept",))
    assert image_ids(engine) == ["a", "c", "d"]


def test_report_is_deleted_with_the_overlays(
    engine: Engine, old: Run, folder_store: ObjectStore, settings: Settings
) -> None:
    pages = settings.reports_dir / "old"
    pages.mkdir(parents=True)
    (pages / "index.html").write_text("pages")
    (settings.reports_dir / "other").mkdir()
    prune(engine, folder_store, settings, OVERLAYS)
    assert [path.name for path in settings.reports_dir.iterdir()] == ["other"]


def keys_of(store: ObjectStore) -> list[str]:
    assert isinstance(store, FolderStore)
    return sorted(str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file())


def write_pages(engine: Engine, store: ObjectStore, run: Run) -> ReportLease:
    lease = request_report(engine, run.name, lease_s=60)
    for name in ("index.html", "images-1.js"):
        store.put(lease.prefix + name, b"pages", content_type="text/html", metadata={})
    return lease


def test_report_in_the_store_is_deleted_with_its_row(engine: Engine, store: ObjectStore, settings: Settings) -> None:
    add_model(engine)
    old = make_graded(engine, store, "old", "a", at=OLD)
    new = make_graded(engine, store, "old-2", "a", at=NEW)
    for run in (old, new):
        finish_report(engine, write_pages(engine, store, run), out="there")
    prune(engine, store, settings, OVERLAYS)
    with read_transaction(engine) as connection:
        assert connection.scalars(select(reports.c.run_id)).all() == [new.run_id]
    with pytest.raises(KeyError):
        store.get("old/report/images-1.js")
    assert store.get("old-2/report/images-1.js") == b"pages"


def test_run_whose_report_is_being_written_is_skipped(
    engine: Engine, old: Run, folder_store: ObjectStore, settings: Settings
) -> None:
    lease = write_pages(engine, folder_store, old)
    before = keys_of(folder_store)
    assert prune(engine, folder_store, settings, OVERLAYS) == PruneResult(0, 0, 0, ())
    assert keys_of(folder_store) == before
    release_report(engine, lease, retry_after_s=0, counted=True)
    assert prune(engine, folder_store, settings, OVERLAYS).overlays == 2
    assert keys_of(folder_store) == []


def test_report_row_is_kept_if_the_store_fails_to_delete_the_report(
    engine: Engine, old: Run, folder_store: ObjectStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish_report(engine, write_pages(engine, folder_store, old), out="there")

    def refuse(_store: FolderStore, _prefix: str) -> None:
        raise StorageError("no right to delete")

    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "delete_prefix", refuse)
        with pytest.raises(StorageError):
            prune(engine, folder_store, settings, OVERLAYS)
    with read_transaction(engine) as connection:
        assert connection.scalars(select(reports.c.prefix)).all() == ["old/report/"]
    assert len(keys_of(folder_store)) == 4
    prune(engine, folder_store, settings, OVERLAYS)
    assert keys_of(folder_store) == []


def test_overlays_never_outlive_their_rows(make_settings: Callable[..., Settings]) -> None:
    def ages(**days: int) -> tuple[int | None, int | None]:
        cutoffs = cutoffs_at(NOW, make_settings(**days))
        return tuple(None if cutoff is None else (NOW - cutoff).days for cutoff in (cutoffs.overlays, cutoffs.rows))

    assert ages() == (None, None)
    assert ages(retain_overlays_days=30) == (30, None)
    assert ages(retain_rows_days=60) == (60, 60)
    assert ages(retain_overlays_days=30, retain_rows_days=60) == (30, 60)
    assert ages(retain_overlays_days=90, retain_rows_days=60) == (60, 60)


def test_nothing_expires_without_a_maximum_age(
    engine: Engine, old: Run, folder_store: ObjectStore, settings: Settings
) -> None:
    assert prune(engine, folder_store, settings, Cutoffs(None, None)) == PruneResult(0, 0, 0, ())
    assert count_expired(engine, Cutoffs(None, None)) == PruneResult(0, 0, 0, ())
    assert len(rows_of(engine, old)) == 2


def test_image_enqueued_during_a_pass_is_kept(
    engine: Engine, old: Run, folder_store: ObjectStore, settings: Settings
) -> None:
    """A producer keeps adding the same images to other runs while their old rows are deleted."""
    stop = threading.Event()
    errors: list[FundusError] = []

    def enqueue() -> None:
        number = 0
        while not stop.is_set():
            try:
                make_run(engine, f"again-{number}", references("a", "b"))
            except FundusError as error:
                errors.append(error)
                return
            number += 1

    thread = threading.Thread(target=enqueue)
    thread.start()
    try:
        prune(engine, folder_store, settings.model_copy(update={"service_retry_timeout_s": 30.0}), BOTH)
    finally:
        stop.set()
        thread.join()
    assert rows_of(engine, old) == {}
    # `enqueue` retries a DatabaseError.
    assert [error for error in errors if not isinstance(error, DatabaseError)] == []
    assert list(rows_of(engine, make_run(engine, "last", references("a", "b")))) == ["a", "b"]


def test_image_that_is_requeued_while_its_run_is_pruned_is_kept(
    postgres_url: str, folder_store: ObjectStore, settings: Settings, broker_url: str
) -> None:
    engine = connect(parse_settings(database_url=postgres_url))
    run = make_run(engine, "old", references("a", "b"))
    for image_id in ("a", "b"):
        fail(engine, run, image_id, "image_missing", at=OLD)
    seal_run(engine, run)
    app = make_celery(parse_settings(broker_url=broker_url))
    interleave(
        postgres_url,
        lambda e: prune(e, folder_store, settings, BOTH),
        lambda e: resend(e, app, settings, "old", [Status.FAILED]),
        stop_after="gradings.retired_key IS NULL ORDER BY gradings.image_id",
    )
    assert {image_id: row.status for image_id, row in rows_of(engine, run).items()} == dict.fromkeys("ab", "queued")
    engine.dispose()


def test_no_transaction_is_open_while_objects_are_deleted(
    engine: Engine, old: Run, folder_store: ObjectStore, settings: Settings
) -> None:
    """The database ends a transaction that is idle for 30 s, and the deletion of a page may take longer."""
    finish_report(engine, write_pages(engine, folder_store, old), out="there")
    deletions = []

    class Watching(FolderStore):
        def delete_prefix(self, prefix: str) -> None:
            deletions.append((prefix, engine.pool.checkedout()))
            super().delete_prefix(prefix)

        def delete(self, key: str) -> None:
            deletions.append((key, engine.pool.checkedout()))
            super().delete(key)

    assert prune(engine, Watching(folder_store.root), settings, OVERLAYS).overlays == 2
    keys = [f"old/0123456789abcdef/{name}.png" for name in "ab"]
    assert deletions == [("old/report/", 0), *((key, 0) for key in keys)]


def test_each_page_begins_after_the_last_one(
    engine: Engine, folder_store: ObjectStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that began at the first row would read all rows of the pages before it again."""
    monkeypatch.setattr("worker.ledger.retention.PAGE_IMAGES", 2)
    add_model(engine)
    make_graded(engine, folder_store, "old", *"abcde", at=OLD)
    firsts: list[object] = []

    def record(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if "ORDER BY gradings.image_id" in statement:
            values = parameters.values() if isinstance(parameters, dict) else parameters
            firsts.append([value for value in values if value in ["", *"abcde"]])

    event.listen(engine, "before_cursor_execute", record)
    assert prune(engine, folder_store, settings, BOTH) == PruneResult(5, 5, 5, ())
    pages = [[""], ["b"], ["d"], ["e"]]
    assert firsts == [[""], *pages, *pages, *pages]


def test_refused_objects_keep_their_key_and_do_not_stop_the_pass(
    engine: Engine, folder_store: ObjectStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.ledger.retention.PAGE_IMAGES", 1)
    add_model(engine)
    runs = [make_graded(engine, folder_store, name, "a", "b", at=OLD) for name in ("one", "two")]

    class Refusing(FolderStore):
        def delete(self, key: str) -> None:
            if key == "one/0123456789abcdef/a.png":
                raise StorageError(f"AccessDenied: {key}")
            super().delete(key)

    with pytest.raises(StorageError, match=r"cannot delete 1 of 4 objects; the first: one/0123456789abcdef/a.png: Acc"):
        prune(engine, Refusing(folder_store.root), settings, BOTH)
    assert [list(rows_of(engine, run)) for run in runs] == [["a"], []]
    assert prune(engine, folder_store, settings, BOTH) == PruneResult(1, 1, 1, ())


def test_hold_waits_for_the_page_that_is_being_deleted(
    engine: Engine, old: Run, folder_store: ObjectStore, settings: Settings
) -> None:
    order: list[str] = []

    class Slow(FolderStore):
        def delete_many(self, keys: Collection[str]) -> Mapping[str, str]:
            thread.start()
            wait_for(lambda: find_run(engine, "old").held)
            order.append("deleted")
            return super().delete_many(keys)

    def hold() -> None:
        set_legal_hold(engine, "old")
        order.append("held")

    thread = threading.Thread(target=hold)
    assert prune(engine, Slow(folder_store.root), settings, BOTH) == PruneResult(2, 0, 0, ())
    thread.join()
    assert order == ["deleted", "held"]
    assert list(rows_of(engine, old)) == ["a", "b"]
