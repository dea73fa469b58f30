"""Write a night's report to the reports folder, or find the one that a worker writes to the overlay store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import select

from worker.core.errors import FundusError, ServiceError, StorageError
from worker.core.storage.atomic_write import write_atomically
from worker.core.storage.keys import report_prefix
from worker.core.storage.storage import Storage
from worker.ledger.database import read_transaction
from worker.ledger.schema import reports
from worker.report.destination import folder_destination
from worker.report.presigned_links import INDEX
from worker.report.writer import ReportOptions, write_report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Engine

    from worker.core.settings import Settings
    from worker.evaluation.drift.psi import Drift

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NightReport:
    """address: path or URI of the report's first page, None without a report. finding: why a due report is missing."""

    address: str | None
    finding: str | None = None


def find_report(engine: Engine, settings: Settings, run_id: int, run: str) -> NightReport:
    """Find the report in the overlay store, written or still pending. Raises DatabaseError."""
    with read_transaction(engine) as connection:
        row = connection.execute(
            select(reports.c.written_at, reports.c.due_at).where(reports.c.run_id == run_id)
        ).first()
    if row is None:
        return NightReport(None)
    if row.written_at is None and row.due_at is None:
        return NightReport(None, f"no worker could write the report: to retry, run `fundus report {run}`")
    return NightReport(Storage(settings).overlays.uri(report_prefix(run) + INDEX))


def write_to_folder(
    engine: Engine, settings: Settings, run: str, folder: Path, drift: Drift | None, on_progress: Callable[[], object]
) -> NightReport:
    """Write the run's report and drift.json to a folder. An unwritable folder is a finding, not an error.

    on_progress: called for each part of the report. Raises DatabaseError or another ServiceError, except StorageError.
    """
    options = ReportOptions(baseline=None if drift is None else drift.baseline)

    def log_warning(message: str) -> None:
        log.info("report_warning", run=run, warning=message)
        on_progress()

    try:
        write_report(
            engine,
            settings,
            run,
            folder_destination(folder),
            options,
            on_warning=log_warning,
            on_progress=lambda *_: on_progress(),
        )
        if drift is not None:
            write_atomically(folder / "drift.json", drift.model_dump_json(indent=2).encode())
    except (FundusError, OSError) as error:
        # A StorageError comes from the folder: the report warns about photographs that it cannot fetch.
        if isinstance(error, ServiceError) and not isinstance(error, StorageError):
            raise
        cause = error.__cause__ if isinstance(error, StorageError) else error
        reason = (cause.strerror if isinstance(cause, OSError) else None) or getattr(error, "code", "unexpected")
        log.error("report_failed", run=run, detail=str(error))  # noqa: TRY400 - one line
        return NightReport(None, f"the report was not written ({reason}): to retry, run `fundus report {run}`")
    return NightReport(str(folder / INDEX))
