"""Delete expired overlays and outcomes, run by run, in pages by image id.

The order for each run: delete its report, mark the keys of expired overlays as retired, delete their objects and clear
the keys, delete expired rows. A row never points at a deleted overlay, and every object in the store is known to a row.
Then reasons of old decisions are emptied, records of old views are deleted, and objects of ended runs that no row knows
are deleted. A pass that was killed is completed by the next one. A run whose report is being written is skipped until
the next pass. Runs and the audit log are kept.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import structlog
from sqlalchemy import ColumnElement, Connection, Engine, Select, delete, exists, null, select, update
from sqlalchemy.exc import IntegrityError

from worker.core.errors import DatabaseError, StorageError
from worker.core.retry import retry_service_errors
from worker.core.settings import Settings
from worker.core.storage.object_store import ObjectStore
from worker.core.storage.storage import Storage
from worker.core.vocabulary import AuditAction
from worker.ledger.audit_log import record_action
from worker.ledger.database import write_transaction
from worker.ledger.duty_record import RETENTION, record_duty
from worker.ledger.legal_hold import DELETION_LOCK, RETENTION_LOCK
from worker.ledger.locks import HeldLock, locked
from worker.ledger.migrate import open_ledger
from worker.ledger.orphans import SweptRun, count_orphans, find_orphans, find_runs_to_sweep, select_orphans
from worker.ledger.photograph_views import delete_expired_views
from worker.ledger.reasons import erase_expired_reasons
from worker.ledger.report_copies import delete_report_copy
from worker.ledger.report_leases import (
    ReportLease,
    delete_report_row,
    is_report_leased,
    keep_report,
    lease_report_for_deletion,
)
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
from worker.ledger.runs import ENDED_STATES
from worker.ledger.schema import gradings, images, runs

PAGE_IMAGES = 1000
"""Number of images that one transaction, or one request to the store, processes. Setting a hold waits for one page."""

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Page:
    """Result of one page. last: its last image id, None after the last page. images: number of images deleted."""

    last: str | None
    changed: int = 0
    images: int = 0


_END = _Page(None)


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
            done = RetentionPass(engine, store, settings, cutoffs, lock, on_progress).run()
            if settings.expects_retention:
                record_duty(engine, RETENTION)
            return done
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
        self._refused: dict[str, str] = {}

    def run(self) -> PruneResult:
        """Prune every ended run that is not held and has something expired.

        Raises OverlapError when the lock is lost, StorageError or DatabaseError when a service stays unavailable, and
        StorageError at the end when the store refused to delete some objects; pages that were committed before stay
        deleted.
        """
        expired, held = find_expired_runs(self._engine, self._cutoffs)
        overlays = rows = images_deleted = 0
        for run in expired:
            if not self._retry(partial(self._delete_report, run)):
                log.info("run_skipped", run=run.name, reason="its report is being written")
                continue
            # Objects that an earlier pass left when it was killed come first.
            leftover = self._each_page(self._delete_objects, run)
            self._each_page(self._retire_overlays, run)
            deleted = self._each_page(self._delete_objects, run)
            outcomes = self._each_page(self._delete_rows, run)
            removed = leftover.changed + deleted.changed
            log.info("run_pruned", run=run.name, overlays=removed, rows=outcomes.changed, images=outcomes.images)
            overlays, rows = overlays + removed, rows + outcomes.changed
            images_deleted += outcomes.images
        reasons, views, orphans = self._erase_reasons(), self._delete_views(), self._delete_orphans()
        if self._refused:
            key, reason = next(iter(self._refused.items()))
            total = overlays + orphans + len(self._refused)
            raise StorageError(f"cannot delete {len(self._refused):,} of {total:,} objects; the first: {key}: {reason}")
        return PruneResult(overlays, rows, images_deleted, held, orphans, reasons, views)

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
        while ids := self._retry(partial(page, last)):
            erased, last = erased + len(ids), ids[-1]
            self._on_progress()
        return erased

    def _delete_views(self) -> int:
        """Delete expired records of views page by page; return their number."""
        cutoff = self._cutoffs.views
        if cutoff is None:
            return 0

        def page() -> int:
            with write_transaction(self._engine) as connection:
                self._lock.fence(connection)
                return delete_expired_views(connection, cutoff)

        deleted = 0
        while count := self._retry(page):
            deleted += count
            self._on_progress()
        return deleted

    def _delete_orphans(self) -> int:
        """Delete the objects of ended runs that no row knows; return their number."""
        deleted = 0
        for run in find_runs_to_sweep(self._engine):
            for keys in find_orphans(self._engine, self._store, run, now=datetime.now(UTC)):
                self._lock.ensure_held()
                if keys:
                    deleted += self._retry(partial(self._delete_page_of_orphans, run, keys))
                self._on_progress()
        return deleted

    def _delete_page_of_orphans(self, run: SweptRun, keys: Collection[str]) -> int:
        with write_transaction(self._engine) as connection:
            self._lock.fence(connection)
            orphans = select_orphans(connection, run, keys, lock=True)
            if not orphans:
                return 0
            refused = self._store.delete_many(orphans)
            deleted = len(orphans) - len(refused)
            record_action(connection, AuditAction.DELETE_ORPHANS, run=run.name, objects=deleted)
            log.info("orphans_deleted", run=run.name, objects=deleted)
        self._refused |= refused
        return deleted

    def _each_page(self, work: Callable[[ExpiredRun, str], _Page], run: ExpiredRun) -> _Page:
        """Process the run in pages by image id until one is empty; return their sum."""
        changed = images_deleted = 0
        after = ""
        while (page := self._retry(partial(work, run, after))).last is not None:
            changed, images_deleted, after = changed + page.changed, images_deleted + page.images, page.last
            self._on_progress()
        return _Page(None, changed, images_deleted)

    def _retry(self, work: Callable[[], T]) -> T:
        return retry_service_errors(work, timeout_s=self._settings.service_retry_timeout_s)

    @contextmanager
    def _transaction(self, run: ExpiredRun) -> Iterator[Connection | None]:
        """Open a transaction under the lock; None for a run that is held or active now, of which nothing is deleted."""
        with write_transaction(self._engine) as connection:
            self._lock.fence(connection)
            now = connection.execute(select(runs.c.held, runs.c.state).where(runs.c.run_id == run.run_id)).one()
            yield connection if now.state in ENDED_STATES and not now.held else None

    def _delete_report(self, run: ExpiredRun) -> bool:
        """Delete the run's report, which shows photographs and overlays; return false if it is being written.

        The report is leased meanwhile, as by a writer, so that none writes it.
        """
        with self._deletion_lock():
            with self._transaction(run) as connection:
                if connection is None:
                    return True
                lease = lease_report_for_deletion(connection, run.run_id, run.name, lease_s=self._settings.lease_s)
                if lease is None and is_report_leased(connection, run.run_id):
                    return False
            delete_report_copy(self._settings, run.name)
            if lease is not None:
                self._delete_leased_report(lease)
        return True

    def _delete_leased_report(self, lease: ReportLease) -> None:
        try:
            self._store.delete_prefix(lease.prefix)
        except StorageError:
            keep_report(self._engine, lease)
            raise
        with write_transaction(self._engine) as connection:
            delete_report_row(connection, lease)

    def _retire_overlays(self, run: ExpiredRun, after: str) -> _Page:
        expired = is_overlay_expired(self._cutoffs)
        with self._transaction(run) as connection:
            if connection is None or not (page := _ids_after(connection, run, after, expired)):
                return _END
            retired = connection.execute(
                update(gradings)
                .where(_rows_of(run, page), expired)
                .values(retired_key=gradings.c.overlay_key, overlay_key=null(), overlay_retired_at=datetime.now(UTC))
            ).rowcount
            record_action(connection, AuditAction.RETIRE_OVERLAYS, run=run.name, images=retired)
        return _Page(page[-1], retired)

    def _delete_objects(self, run: ExpiredRun, after: str) -> _Page:
        """Delete the objects of retired keys, and clear the keys whose object the store deleted.

        No transaction is open during the deletion: it may take longer than the database waits for a statement.
        """
        has_object = gradings.c.retired_key.is_not(None)
        with self._deletion_lock():
            with self._transaction(run) as connection:
                if connection is None:
                    return _END
                query = _page_after(select(gradings.c.image_id, gradings.c.retired_key), run, after, has_object)
                page = connection.execute(query).all()
            if not page:
                return _END
            refused = self._store.delete_many([row.retired_key for row in page])
        self._refused |= refused
        deleted = [row.image_id for row in page if row.retired_key not in refused]
        with write_transaction(self._engine) as connection:
            connection.execute(update(gradings).where(_rows_of(run, deleted)).values(retired_key=null()))
        return _Page(page[-1].image_id, len(deleted))

    def _delete_rows(self, run: ExpiredRun, after: str) -> _Page:
        has_no_object = gradings.c.overlay_key.is_(None) & gradings.c.retired_key.is_(None)
        expired = is_row_expired(self._cutoffs) & has_no_object
        with self._transaction(run) as connection:
            if connection is None or not (page := _ids_after(connection, run, after, expired)):
                return _END
            # Test again: a resend may have queued an image since the select.
            deleted = connection.scalars(
                delete(gradings).where(_rows_of(run, page), expired).returning(gradings.c.image_id)
            ).all()
            has_another = exists().where(gradings.c.image_id == images.c.image_id)
            try:
                orphans = delete(images).where(images.c.image_id.in_(deleted), ~has_another)
                gone = connection.execute(orphans).rowcount
            except IntegrityError as error:
                raise DatabaseError("an image was enqueued while it was being deleted") from error
            record_action(connection, AuditAction.DELETE_ROWS, run=run.name, outcomes=len(deleted), images=gone)
        return _Page(page[-1], len(deleted), gone)

    def _deletion_lock(self) -> AbstractContextManager[HeldLock]:
        return locked(self._engine, DELETION_LOCK, lock_s=self._settings.lease_s)


def _page_after(query: Select[Any], run: ExpiredRun, after: str, condition: ColumnElement[bool]) -> Select[Any]:
    """Restrict a query over `gradings` to the next page of the run's rows that meet the condition."""
    of_run = (gradings.c.run_id == run.run_id, gradings.c.image_id > after, condition)
    return query.where(*of_run).order_by(gradings.c.image_id).limit(PAGE_IMAGES)


def _ids_after(connection: Connection, run: ExpiredRun, after: str, condition: ColumnElement[bool]) -> list[str]:
    return list(connection.scalars(_page_after(select(gradings.c.image_id), run, after, condition)))


def _rows_of(run: ExpiredRun, image_ids: Collection[str]) -> ColumnElement[bool]:
    return (gradings.c.run_id == run.run_id) & gradings.c.image_id.in_(image_ids)
