"""Let overlays and outcomes go by age, a run at a time, and never more than a page in one transaction.

The order is: the row gives up its overlay, the object is deleted, the row forgets the key, the row is deleted. At no
moment does a row claim an overlay that is gone, or an object lie in the store that no row knows; killed anywhere, the
next pass goes on. A run's report goes before its overlays; one that is being written puts the run off. Runs themselves
and the audit trail stay.
"""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import structlog
from sqlalchemy import ColumnElement, Connection, Engine, delete, exists, null, select, update
from sqlalchemy.exc import IntegrityError

from worker.core.errors import DatabaseError, StorageError
from worker.core.retry import retry_service_errors
from worker.core.settings import Settings
from worker.core.storage.object_store import ObjectStore, Storage
from worker.core.vocabulary import Action
from worker.ledger.audit_log import record_action
from worker.ledger.database import write_transaction
from worker.ledger.legal_hold import RETENTION_LOCK
from worker.ledger.locks import HeldLock, locked
from worker.ledger.migrate import open_ledger
from worker.ledger.report_leases import is_being_written
from worker.ledger.retention_policy import (
    Cutoffs,
    DueRun,
    Retired,
    cutoffs_at,
    overlay_is_due,
    plan_retention,
    read_due_runs,
    row_is_due,
)
from worker.ledger.schema import gradings, images, reports, runs

PAGE_IMAGES = 200
"""A hold waits for one page: its objects are deleted in one transaction."""

_Page = tuple[int, int]
"""Rows that were changed, and images that were deleted with them."""
_NOTHING: _Page = (0, 0)

log = structlog.get_logger(__name__)


def run_retention(
    settings: Settings, *, dry_run: bool = False, on_progress: Callable[[], object] = lambda: None
) -> Retired:
    """The whole of `fundus retention`, for cron and beat alike. Raises as `Retention.let_go` does."""
    engine = open_ledger(settings)
    try:
        cutoffs = cutoffs_at(datetime.now(UTC), settings)
        if dry_run:
            return plan_retention(engine, cutoffs)
        store = Storage(settings, connections=settings.transfer_threads).overlays
        with locked(engine, RETENTION_LOCK, lock_s=settings.lease_s) as lock:
            return Retention(engine, store, settings, cutoffs, lock, on_progress).let_go()
    finally:
        engine.dispose()


class Retention:
    """One pass under the lock; `on_progress` is called after each page."""

    def __init__(
        self,
        engine: Engine,
        store: ObjectStore,
        settings: Settings,
        cutoffs: Cutoffs,
        lock: HeldLock,
        on_progress: Callable[[], object] = lambda: None,
    ) -> None:
        self._engine = engine
        self._store = store
        self._settings = settings
        self._cutoffs = cutoffs
        self._lock = lock
        self._on_progress = on_progress

    def let_go(self) -> Retired:
        """All runs that are over, not held, and have something too old.

        Raises OverlapError when the lock is lost, StorageError or DatabaseError when a service stays away; what is done
        by then is done.
        """
        due, held = read_due_runs(self._engine, self._cutoffs)
        overlays = rows = forgotten = 0
        for run in due:
            if is_being_written(self._engine, run.run_id):
                log.info("left_for_later", run=run.name, reason="its report is being written")
                continue
            self._each_page(run, self._delete_report)
            # First those that an earlier pass was killed over.
            left, _ = self._each_page(run, self._delete_objects)
            self._each_page(run, self._give_up_overlays)
            gone, _ = self._each_page(run, self._delete_objects)
            outcomes, alone = self._each_page(run, self._delete_rows)
            log.info("retired", run=run.name, overlays=left + gone, rows=outcomes, images=alone)
            overlays, rows, forgotten = overlays + left + gone, rows + outcomes, forgotten + alone
        return Retired(overlays, rows, forgotten, held)

    def _each_page(self, run: DueRun, work: Callable[[Connection, DueRun], _Page]) -> _Page:
        """Pages until one is empty or the run is held; the sum of them."""

        def page() -> _Page:
            with write_transaction(self._engine) as connection:
                self._lock.fence(connection)
                if connection.scalar(select(runs.c.held).where(runs.c.run_id == run.run_id)):
                    return _NOTHING
                return work(connection, run)

        rows = forgotten = 0
        while (done := retry_service_errors(page, timeout_s=self._settings.service_retry_timeout_s))[0]:
            rows, forgotten = rows + done[0], forgotten + done[1]
            self._on_progress()
        return rows, forgotten

    def _delete_report(self, connection: Connection, run: DueRun) -> _Page:
        """The pages in the store with their row, and those that a morning wrote: they show photographs and overlays."""
        # First the row, which whoever wants to write there waits for; it is gone when its objects are.
        prefix = connection.scalar(delete(reports).where(reports.c.run_id == run.run_id).returning(reports.c.prefix))
        if prefix is not None:
            self._store.delete_under(prefix)
        if self._settings.reports_dir is None:
            return _NOTHING
        try:
            shutil.rmtree(self._settings.reports_dir / run.name)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StorageError(f"cannot delete the report of run {run.name}: {error.strerror or error}") from error
        return _NOTHING

    def _give_up_overlays(self, connection: Connection, run: DueRun) -> _Page:
        page = _first(connection, run, overlay_is_due(self._cutoffs))
        if page:
            connection.execute(
                update(gradings)
                .where(gradings.c.run_id == run.run_id, gradings.c.image_id.in_(page))
                .values(retired_key=gradings.c.overlay_key, overlay_key=null(), overlay_retired_at=datetime.now(UTC))
            )
            record_action(connection, Action.RETIRE_OVERLAYS, run=run.name, images=len(page))
        return len(page), 0

    def _delete_objects(self, connection: Connection, run: DueRun) -> _Page:
        page = _first(connection, run, gradings.c.retired_key.is_not(None))
        of_page = (gradings.c.run_id == run.run_id) & gradings.c.image_id.in_(page)
        keys = connection.scalars(select(gradings.c.retired_key).where(of_page)).all()
        with ThreadPoolExecutor(self._settings.transfer_threads) as threads:
            for _ in threads.map(self._store.delete, keys):
                pass
        connection.execute(update(gradings).where(of_page).values(retired_key=null()))
        return len(page), 0

    def _delete_rows(self, connection: Connection, run: DueRun) -> _Page:
        has_no_object = gradings.c.overlay_key.is_(None) & gradings.c.retired_key.is_(None)
        page = _first(connection, run, row_is_due(self._cutoffs) & has_no_object)
        if not page:
            return _NOTHING
        connection.execute(delete(gradings).where(gradings.c.run_id == run.run_id, gradings.c.image_id.in_(page)))
        has_another = exists().where(gradings.c.image_id == images.c.image_id)
        try:
            gone = connection.execute(delete(images).where(images.c.image_id.in_(page), ~has_another)).rowcount
        except IntegrityError as error:
            raise DatabaseError("an image was enqueued while it was being deleted") from error
        record_action(connection, Action.DELETE_ROWS, run=run.name, outcomes=len(page), images=gone)
        return len(page), gone


def _first(connection: Connection, run: DueRun, condition: ColumnElement[bool]) -> list[str]:
    query = select(gradings.c.image_id).where(gradings.c.run_id == run.run_id, condition)
    return list(connection.scalars(query.order_by(gradings.c.image_id).limit(PAGE_IMAGES)))
