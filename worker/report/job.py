"""Write the pending report of a run into the object store, under a lease.

In a worker it uses one decoder process, so that grading is not slowed down.
"""

from collections.abc import Callable
from threading import Event

import structlog
from sqlalchemy import Engine

from worker.core.errors import RunError, ServiceError
from worker.core.periodic import PeriodicThread
from worker.core.settings import Settings
from worker.core.storage.storage import Storage
from worker.ledger.report_leases import ReportLease, finish_report, lease_report, release_report, renew_report
from worker.report.destination import Destination
from worker.report.patients import read_next_steps
from worker.report.summary import find_reported_run
from worker.report.thumbnails import OnWarning
from worker.report.writer import ReportOptions, write_report

log = structlog.get_logger(__name__)


class ReportJob:
    """Writes reports in a worker."""

    def __init__(self, engine: Engine, settings: Settings, on_progress: Callable[[], object] = lambda: None) -> None:
        """`on_progress` is called before each part. Raises UsageError if the file of next steps is invalid."""
        self._engine = engine
        # One decoder process for the report: the others keep serving images that are graded.
        self._settings = settings.model_copy(update={"decode_processes": 1, "transfer_threads": 2})
        self._next_steps = read_next_steps(settings.report_next_steps)
        self._stopping = Event()
        self._on_progress = on_progress

    def stop(self) -> None:
        """Stop before the next part. Another worker writes the report from the start."""
        self._stopping.set()

    def write(self, run_id: int) -> bool:
        """Write the report of a run if it is pending. Return whether it was written.

        False also means that another worker holds its lease or that it failed and will be retried. Raises DatabaseError
        if the ledger cannot be reached when the report is leased.
        """
        lease = lease_report(self._engine, run_id, lease_s=self._settings.lease_s)
        if lease is None:
            return False
        try:
            address = write_under_lease(
                self._engine,
                self._settings,
                lease,
                ReportOptions(baseline=self._find_baseline(), next_steps=self._next_steps),
                on_warning=lambda message: log.info("report_warning", run=lease.run_name, warning=message),
                should_continue=self._should_continue,
            )
        except ServiceError as error:
            log.warning("report_postponed", run=lease.run_name, code=error.code, detail=error.detail)
            return False
        except Exception:
            # A bug, a setting or a missing privilege: retried a few times, then the run has no report.
            log.exception("report_failed", run=lease.run_name)
            return False
        log.info("report_written", run=lease.run_name, at=address)
        return True

    def _should_continue(self) -> bool:
        self._on_progress()
        return not self._stopping.is_set()

    def _find_baseline(self) -> str | None:
        name = self._settings.report_baseline
        if name is None:
            return None
        try:
            return find_reported_run(self._engine, name).name
        except RunError as error:
            log.warning("report_baseline_missing", code=error.code, detail=error.detail)
            return None


def write_under_lease(
    engine: Engine,
    settings: Settings,
    lease: ReportLease,
    options: ReportOptions,
    *,
    on_warning: OnWarning,
    on_progress: Callable[[int, int], object] = lambda _done, _total: None,
    should_continue: Callable[[], bool] = lambda: True,
) -> str:
    """Write a leased report and return the address of its page.

    On failure the lease is released and the report stays pending. Raises as `write_report` does.
    """
    lost = Event()

    def renew() -> None:
        if not renew_report(engine, lease, lease_s=settings.lease_s):
            lost.set()

    destination = Destination(Storage(settings).overlays, lease.prefix)
    renewal = PeriodicThread("report", renew, interval_s=settings.lease_s / 3)
    try:
        address = write_report(
            engine,
            settings,
            lease.run_name,
            destination,
            options,
            on_warning=on_warning,
            on_progress=on_progress,
            should_continue=lambda: should_continue() and not lost.is_set(),
        )
        finish_report(engine, lease, out=address)
    except BaseException as error:
        # Service errors and interruptions do not count as failed attempts.
        counted = isinstance(error, Exception) and not isinstance(error, ServiceError)
        release_report(
            engine, lease, retry_after_s=settings.resend_after_s if should_continue() else 0.0, counted=counted
        )
        raise
    finally:
        renewal.stop()
    return address
