"""Write the report that a run owes into the store, under a lease; a worker does it without costing what it grades."""

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
    """What a worker does about reports; `stop` ends one under way before its next part."""

    def __init__(self, engine: Engine, settings: Settings, on_progress: Callable[[], object] = lambda: None) -> None:
        """`on_progress` is called before each part. Raises UsageError for sentences that cannot be read."""
        self._engine = engine
        # One process decodes for the report: the others go on for what is graded.
        self._settings = settings.model_copy(update={"decode_processes": 1, "transfer_threads": 2})
        self._next_steps = read_next_steps(settings.report_next_steps)
        self._stopping = Event()
        self._on_progress = on_progress

    def stop(self) -> None:
        """Leave what is under way to another worker."""
        self._stopping.set()

    def write(self, run_id: int) -> bool:
        """Write what the run owes; false when it owes none, another worker has it, or it could not be written now.

        Raises DatabaseError when the ledger is away at the start.
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
            log.warning("report_put_off", run=lease.run_name, code=error.code, detail=error.detail)
            return False
        except Exception:
            # Of ours, of the settings or of the ledger's rights: a few tries, and the run goes without.
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
            log.warning("report_without_baseline", code=error.code, detail=error.detail)
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
    """The first page's address. Raises as `write_report`; the report is owed again then."""
    lost = Event()

    def renew() -> None:
        if not renew_report(engine, lease, lease_s=settings.lease_s):
            lost.set()

    destination = Destination(Storage(settings).overlays, lease.prefix)
    renewing = PeriodicThread("report", renew, interval_s=settings.lease_s / 3)
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
        # Neither a service that is away nor a stop is an attempt that failed.
        counted = isinstance(error, Exception) and not isinstance(error, ServiceError)
        release_report(
            engine, lease, retry_after_s=settings.resend_after_s if should_continue() else 0.0, counted=counted
        )
        raise
    finally:
        renewing.stop()
    return address
