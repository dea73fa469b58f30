"""Delete expired overlays and outcomes, run by run, in page-sized transactions.

The order for each run: delete its report, mark the keys of expired overlays as retired, delete their objects and clear
the keys, delete expired rows. A row never points at a deleted overlay, and every object in the store is known to a row.
Then reasons of old decisions are emptied, and objects of ended runs that no row knows are deleted.
A pass that was killed is completed by the next one. A run whose report is being written is skipped until the next pass.
Runs and the audit log are kept.
"""

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import structlog
from sqlalchemy import ColumnElement, Connection, Engine, delete, exists, null, select, update
from sqlalchemy.exc import IntegrityError

from worker.core.errors import DatabaseError
from worker.core.retry import retry_service_errors
from worker.core.settings import Settings
from worker.core.storage.object_store import ObjectStore
from worker.core.storage.storage import Storage
from worker.core.vocabulary import AuditAction
from worker.ledger.audit_log import record_action
from worker.ledger.database import write_transaction
from worker.ledger.legal_hold import RETENTION_LOCK
from worker.ledger.locks import HeldLock, locked
from worker.ledger.migrate import open_ledger
from worker.ledger.orphans import SweptRun, count_orphans, find_orphans, find_runs_to_sweep, select_orphans
from worker.ledger.reasons import erase_expired_reasons
from worker.ledger.report_copies import delete_report_copy
from worker.ledger.report_leases import is_being_written
from worker.ledger.retention_policy import (
    Cutoffs,
    ExpiredRun,
    PruneResult,
    count_expired,
    cutoffs_at,
    find_expired_runs,
    is_overlay_expired,
    is_row_expired,
)
from worker.ledger.schema import gradings, images, reports, runs

PAGE_IMAGES = 200
"""Setting a hold waits for one page: its objects are deleted in one transaction."""

_Page = tuple[int, int]
"""Number of rows changed, and of images deleted with them."""
_NOTHING: _Page = (0, 0)

log = structlog.get_logger(__name__)


def run_retention(
    settings: Settings, *, dry_run: bool = False, on_progress: Callable[[], object] = lambda: None
) -> PruneResult:
    """Run one retention pass, or count what it would delete. `fundus retention` and beat call it.

    on_progress: called after each page. Raises as `RetentionPass.run` does.
    """
    engine = open_ledger(settings)
    try:
        cutoffs = cutoffs_at(datetime.now(UTC), settings)
        if dry_run:
            orphans = count_orphans(engine, Storage(settings).overlays, now=datetime.now(UTC))
            return replace(count_expired(engine, cutoffs), orphans=orphans)
        store = Storage(settings, connections=settings.transfer_threads).overlays
        with locked(engine, RETENTION_LOCK, lock_s=settings.lease_s) as lock:
            return RetentionPass(engine, store, settings, cutoffs, lock, on_progress).run()
    finally:
        engine.dispose()


class RetentionPass:
    """One pass over all expired runs, under the retention lock."""

    def __init__(
        self,
        engine: Engine,
        store: ObjectStore,
        settings: Settings,
        cutoffs: Cutoffs,
        lock: HeldLock,
        on_progress: Callable[[], object] = lambda: None,
    ) -> None:
        """on_progress: called after each page."""
        self._engine = engine
        self._store = store
        self._settings = settings
        self._cutoffs = cutoffs
        self._lock = lock
        self._on_progress = on_progress

    def run(self) -> PruneResult:
        """Prune every ended run that is not held and has something expired.

        Raises OverlapError when the lock is lost, StorageError or DatabaseError when a service stays unavailable; pages
        that were committed before stay deleted.
        """
        expired, held = find_expired_runs(self._engine, self._cutoffs)
        overlays = rows = images_deleted = 0
        for run in expired:
            if is_being_written(self._engine, run.run_id):
                log.info("run_skipped", run=run.name, reason="its report is being written")
                continue
            self._each_page(run, self._delete_report)
            # Objects that an earlier pass left when it was killed come first.
            leftover, _ = self._each_page(run, self._delete_objects)
            self._each_page(run, self._retire_overlays)
            deleted, _ = self._each_page(run, self._delete_objects)
            outcomes, orphans = self._each_page(run, self._delete_rows)
            log.info("run_pruned", run=run.name, overlays=leftover + deleted, rows=outcomes, images=orphans)
            overlays, rows, images_deleted = overlays + leftover + deleted, rows + outcomes, images_deleted + orphans
        reasons = self._erase_reasons()
        return PruneResult(overlays, rows, images_deleted, held, self._delete_orphans(), reasons)

    def _erase_reasons(self) -> int:
        """Empty expired reasons page by page; return their number."""
        cutoff = self._cutoffs.reasons
        if cutoff is None:
            return 0

        def page(after: int) -> list[int]:
            with write_transaction(self._engine) as connection:
                self._lock.fence(connection)
                return erase_expired_reasons(connection, cutoff, after=after)

        erased, last = 0, 0
        while ids := retry_service_errors(partial(page, last), timeout_s=self._settings.service_retry_timeout_s):
            erased, last = erased + len(ids), ids[-1]
            self._on_progress()
        return erased

    def _delete_orphans(self) -> int:
        """Delete the objects of ended runs that no row knows; return their number."""
        deleted = 0
        for run in find_runs_to_sweep(self._engine):
            for keys in find_orphans(self._engine, self._store, run, now=datetime.now(UTC)):
                self._lock.ensure_held()
                if keys:
                    delete = partial(self._delete_page_of_orphans, run, keys)
                    deleted += retry_service_errors(delete, timeout_s=self._settings.service_retry_timeout_s)
                self._on_progress()
        return deleted

    def _delete_page_of_orphans(self, run: SweptRun, keys: Collection[str]) -> int:
        with write_transaction(self._engine) as connection:
            self._lock.fence(connection)
            orphans = select_orphans(connection, run, keys, lock=True)
            if orphans:
                self._store.delete_many(orphans)
                record_action(connection, AuditAction.DELETE_ORPHANS, run=run.name, objects=len(orphans))
                log.info("orphans_deleted", run=run.name, objects=len(orphans))
            return len(orphans)

    def _each_page(self, run: ExpiredRun, work: Callable[[Connection, ExpiredRun], _Page]) -> _Page:
        """Process pages until one is empty or the run is held; return their sum."""

        def page() -> _Page:
            with write_transaction(self._engine) as connection:
                self._lock.fence(connection)
                if connection.scalar(select(runs.c.held).where(runs.c.run_id == run.run_id)):
                    return _NOTHING
                return work(connection, run)

        rows = images_deleted = 0
        while (done := retry_service_errors(page, timeout_s=self._settings.service_retry_timeout_s))[0]:
            rows, images_deleted = rows + done[0], images_deleted + done[1]
            self._on_progress()
        return rows, images_deleted

    def _delete_report(self, connection: Connection, run: ExpiredRun) -> _Page:
        """Delete the run's reports in the store and in the reports folder: they show photographs and overlays."""
        # The row goes first and stays locked until its objects are deleted, so that no writer can lease the report.
        prefix = connection.scalar(delete(reports).where(reports.c.run_id == run.run_id).returning(reports.c.prefix))
        if prefix is not None:
            self._store.delete_prefix(prefix)
        delete_report_copy(self._settings, run.name)
        return _NOTHING

    def _retire_overlays(self, connection: Connection, run: ExpiredRun) -> _Page:
        page = _first(connection, run, is_overlay_expired(self._cutoffs))
        if page:
            connection.execute(
                update(gradings)
                .where(gradings.c.run_id == run.run_id, gradings.c.image_id.in_(page))
                .values(retired_key=gradings.c.overlay_key, overlay_key=null(), overlay_retired_at=datetime.now(UTC))
            )
            record_action(connection, AuditAction.RETIRE_OVERLAYS, run=run.name, images=len(page))
        return len(page), 0

    def _delete_objects(self, connection: Connection, run: ExpiredRun) -> _Page:
        page = _first(connection, run, gradings.c.retired_key.is_not(None))
        of_page = (gradings.c.run_id == run.run_id) & gradings.c.image_id.in_(page)
        keys = connection.scalars(select(gradings.c.retired_key).where(of_page)).all()
        with ThreadPoolExecutor(self._settings.transfer_threads) as threads:
            for _ in threads.map(self._store.delete, keys):
                pass
        connection.execute(update(gradings).where(of_page).values(retired_key=null()))
        return len(page), 0

    def _delete_rows(self, connection: Connection, run: ExpiredRun) -> _Page:
        has_no_object = gradings.c.overlay_key.is_(None) & gradings.c.retired_key.is_(None)
        page = _first(connection, run, is_row_expired(self._cutoffs) & has_no_object)
        if not page:
            return _NOTHING
        connection.execute(delete(gradings).where(gradings.c.run_id == run.run_id, gradings.c.image_id.in_(page)))
        has_another = exists().where(gradings.c.image_id == images.c.image_id)
        try:
            gone = connection.execute(delete(images).where(images.c.image_id.in_(page), ~has_another)).rowcount
        except IntegrityError as error:
            raise DatabaseError("an image was enqueued while it was being deleted") from error
        record_action(connection, AuditAction.DELETE_ROWS, run=run.name, outcomes=len(page), images=gone)
        return len(page), gone


def _first(connection: Connection, run: ExpiredRun, condition: ColumnElement[bool]) -> list[str]:
    query = select(gradings.c.image_id).where(gradings.c.run_id == run.run_id, condition)
    return list(connection.scalars(query.order_by(gradings.c.image_id).limit(PAGE_IMAGES)))
