"""After a night: its drift, its report, and a word to whoever must know.

A night is closed once its run is over, and told once its alarm has been taken. Killed in between, the next call goes
on: an alarm may come twice, and is never lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import func, select, update

from worker.core.errors import FundusError, RunError, ServiceError, StorageError
from worker.core.storage.atomic_write import write_atomically
from worker.core.storage.keys import report_prefix
from worker.core.storage.object_store import Storage
from worker.core.telemetry.alerts import Alerts
from worker.core.vocabulary import RunState, Status
from worker.ledger.database import connect, read_transaction, write_transaction
from worker.ledger.locks import locked
from worker.ledger.migrate import require_compatible
from worker.ledger.schema import gradings, nights, reports, runs
from worker.report.destination import folder_destination
from worker.report.presigned_links import INDEX
from worker.report.writer import ReportOptions, write_report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Engine

    from worker.core.settings import Settings
    from worker.evaluation.drift.psi import Drift

LOCK = "morning"
OVER = (RunState.FINISHED, RunState.CANCELLED)
FAILED_AT_MOST = 0.02
UNGRADABLE_AT_MOST = 0.15
"""Shares, as in deploy/prometheus/alerts.yml."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Night:
    """A night whose run is over."""

    run_id: int
    run: str
    programme: str
    date: date
    state: RunState
    model_id: str | None


@dataclass(frozen=True, slots=True)
class Closed:
    """What is said of a night. `verdict`: None where there was nothing to compare. `report`: its first page, if any.

    `findings`: sentences on what is not as it should be.
    """

    run: str
    by_status: dict[str, int]
    verdict: str | None
    report: str | None
    findings: tuple[str, ...]


def run_morning(settings: Settings, *, on_progress: Callable[[], object] = lambda: None) -> list[Closed]:
    """Close the nights that are over, then send the alarms that are pending.

    Raises OverlapError while another process does it, ServiceError when a service stays away, AlertError when an
    address did not take its alarm; what is missing then is done by the next call.
    """
    alerts = Alerts(settings)
    engine = connect(settings)
    try:
        require_compatible(engine)
        with locked(engine, LOCK, lock_s=settings.lease_s) as lock:

            def alive(*_: object) -> None:
                lock.ensure_held()
                on_progress()

            closed = [_close(engine, settings, night, alive) for night in _read_unclosed(engine)]
            _tell(engine, alerts)
    finally:
        engine.dispose()
    return closed


def _read_unclosed(engine: Engine) -> list[Night]:
    query = (
        select(nights.c.run_id, runs.c.name, nights.c.programme, nights.c.night, runs.c.state, runs.c.model_id)
        .join(runs, runs.c.run_id == nights.c.run_id)
        .where(nights.c.closed_at.is_(None), runs.c.state.in_(OVER))
        .order_by(nights.c.night)
    )
    with read_transaction(engine) as connection:
        return [Night(*row) for row in connection.execute(query)]


def _close(engine: Engine, settings: Settings, night: Night, alive: Callable[..., None]) -> Closed:
    findings: list[str] = []
    by_status = _count(engine, night)
    drift = _measure_drift(engine, settings, night, findings)
    if settings.reports_dir is None:
        report = _find_report(engine, settings, night, findings)
    else:
        report = _write_report(
            engine, settings, night, settings.reports_dir.absolute() / night.run, drift, findings, alive
        )
    findings = [*_faults(by_status), *findings]
    verdict = None if drift is None else str(drift.verdict)
    with write_transaction(engine) as connection:
        still_over = select(runs.c.run_id).where(runs.c.state.in_(OVER))  # else it is closed once more
        connection.execute(
            update(nights)
            .where(nights.c.run_id == night.run_id, nights.c.run_id.in_(still_over))
            .values(
                closed_at=datetime.now(UTC),
                verdict=verdict,
                findings=findings,
                told_at=None if findings else datetime.now(UTC),
            )
        )
    log.info("night_closed", run=night.run, verdict=verdict, findings=len(findings), **by_status)
    return Closed(night.run, by_status, verdict, report, tuple(findings))


def _count(engine: Engine, night: Night) -> dict[str, int]:
    counts = select(gradings.c.status, func.count().label("images")).where(gradings.c.run_id == night.run_id)
    with read_transaction(engine) as connection:
        found = {row.status: row.images for row in connection.execute(counts.group_by(gradings.c.status))}
    return {str(status): found.get(status, 0) for status in Status if status is not Status.QUEUED}


def _faults(by_status: dict[str, int]) -> list[str]:
    judged = by_status[Status.GRADED] + by_status[Status.UNGRADABLE]
    failed = by_status[Status.FAILED] + by_status[Status.QUARANTINED]
    faults = []
    if failed > FAILED_AT_MOST * (judged + failed):
        faults.append(f"{failed:,} of {judged + failed:,} images failed, {FAILED_AT_MOST:.0%} are usual at most")
    if by_status[Status.UNGRADABLE] > UNGRADABLE_AT_MOST * judged:
        ungradable = by_status[Status.UNGRADABLE]
        faults.append(f"{ungradable:,} of {judged:,} photographs cannot be graded, {UNGRADABLE_AT_MOST:.0%} at most")
    return faults


def _measure_drift(engine: Engine, settings: Settings, night: Night, findings: list[str]) -> Drift | None:
    if night.model_id is None:
        return None
    try:
        from worker.evaluation.drift.nights import measure_night_drift
        from worker.evaluation.drift.psi import DriftLevel

        drift = measure_night_drift(engine, night.run, night.programme, night.date, settings.drift_baseline)
    except ModuleNotFoundError as error:
        findings.append(f"the drift was not measured: it needs {error.name}, which the extra `evaluate` installs")
        return None
    except RunError as error:
        findings.append(f"the drift was not measured: {error.detail}")
        return None
    if drift is not None and drift.verdict is DriftLevel.DRIFT:
        moved = ", ".join(f"{f.name} {f.index:.2f}" for f in drift.features if f.verdict is DriftLevel.DRIFT)
        findings.append(f"what comes in has changed since {drift.baseline}: stability index of {moved}")
    return drift


def _find_report(engine: Engine, settings: Settings, night: Night, findings: list[str]) -> str | None:
    """Where the report that workers write beside the overlays is, or will be; None for a run that is owed none."""
    with read_transaction(engine) as connection:
        row = connection.execute(
            select(reports.c.written_at, reports.c.due_at).where(reports.c.run_id == night.run_id)
        ).first()
    if row is None:
        return None
    if row.written_at is None and row.due_at is None:
        findings.append(f"no worker could write the report: `fundus report {night.run}` tries again")
        return None
    return Storage(settings).overlays.uri(report_prefix(night.run) + INDEX)


def _write_report(
    engine: Engine,
    settings: Settings,
    night: Night,
    folder: Path,
    drift: Drift | None,
    findings: list[str],
    alive: Callable[..., None],
) -> str | None:
    """The first page's path; None for a night of which no image was begun, or when it cannot be written."""
    if night.model_id is None:
        return None
    options = ReportOptions(baseline=None if drift is None else drift.baseline)

    def on_warning(sentence: str) -> None:
        log.info("report_warning", run=night.run, warning=sentence)
        alive()

    try:
        destination = folder_destination(folder)
        write_report(engine, settings, night.run, destination, options, on_warning=on_warning, on_progress=alive)
        if drift is not None:
            write_atomically(folder / "drift.json", drift.model_dump_json(indent=2).encode())
    except (FundusError, OSError) as error:
        # A StorageError is of the folder: the pictures' sources report theirs as warnings.
        if isinstance(error, ServiceError) and not isinstance(error, StorageError):
            raise
        fault = error.__cause__ if isinstance(error, StorageError) else error
        reason = (fault.strerror if isinstance(fault, OSError) else None) or getattr(error, "code", "unexpected")
        findings.append(f"the report was not written ({reason}): `fundus report {night.run}` tries again")
        log.error("report_failed", run=night.run, detail=str(error))  # noqa: TRY400 - one line
        return None
    return str(folder / INDEX)


def _tell(engine: Engine, alerts: Alerts) -> None:
    query = (
        select(nights.c.run_id, runs.c.name, nights.c.findings)
        .join(runs, runs.c.run_id == nights.c.run_id)
        .where(nights.c.closed_at.is_not(None), nights.c.told_at.is_(None))
        .order_by(nights.c.night)
    )
    with read_transaction(engine) as connection:
        untold = connection.execute(query).all()
    for night in untold:
        alerts.send(f"{night.name} needs a look", "\n".join(night.findings or ()))
        with write_transaction(engine) as connection:
            connection.execute(
                update(nights)
                .where(nights.c.run_id == night.run_id, nights.c.closed_at.is_not(None))
                .values(told_at=datetime.now(UTC))
            )
