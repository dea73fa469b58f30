"""Close nights whose runs have ended: count outcomes, measure drift, get the report, and send alerts.

A night is closed before its alert is sent. If the process is killed in between, the next call sends the alert: an
alert may be sent twice and is never lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import func, select, update

from worker.core.errors import RunError
from worker.core.telemetry.alerts import Alerts
from worker.core.vocabulary import Status
from worker.ledger.database import connect, read_transaction, write_transaction
from worker.ledger.locks import locked
from worker.ledger.migrate import require_compatible
from worker.ledger.runs import ENDED_STATES, lock_night
from worker.ledger.schema import gradings, nights, runs
from worker.maintenance.night_alerts import send_pending_alerts
from worker.maintenance.night_report import NightReport, find_report, write_to_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from worker.core.settings import Settings
    from worker.evaluation.drift.psi import Drift

LOCK = "morning"
"""Name of the lock in existing ledgers."""
MAX_FAILED_SHARE = 0.02
MAX_UNGRADABLE_SHARE = 0.15
"""Same shares as in deploy/prometheus/alerts.yml."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ClosedNight:
    """Summary of a closed night.

    by_status: number of images for each final status. verdict: drift level, None when there was nothing to compare.
    report: path or URI of the report's first page. findings: one sentence for each problem.
    """

    run: str
    by_status: dict[str, int]
    verdict: str | None
    report: str | None
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _EndedNight:
    run_id: int
    run: str
    programme: str
    date: date
    model_id: str | None


def close_ended_nights(settings: Settings, *, on_progress: Callable[[], object] = lambda: None) -> list[ClosedNight]:
    """Close every night whose run has ended, then send the pending alerts. `fundus close-nights` and beat call it.

    Raises OverlapError while another process closes nights, ServiceError when a service is unavailable, AlertError when
    an address does not accept an alert. The next call completes what is missing.
    """
    alerts = Alerts(settings)
    engine = connect(settings)
    try:
        require_compatible(engine)
        with locked(engine, LOCK, lock_s=settings.lease_s) as lock:

            def check_lock() -> None:
                lock.ensure_held()
                on_progress()

            closed = [_close(engine, settings, night, check_lock) for night in _read_unclosed(engine)]
            send_pending_alerts(engine, alerts)
    finally:
        engine.dispose()
    return closed


def _read_unclosed(engine: Engine) -> list[_EndedNight]:
    query = (
        select(nights.c.run_id, runs.c.name, nights.c.programme, nights.c.night, runs.c.model_id)
        .join(runs, runs.c.run_id == nights.c.run_id)
        .where(nights.c.closed_at.is_(None), runs.c.state.in_(ENDED_STATES))
        .order_by(nights.c.night)
    )
    with read_transaction(engine) as connection:
        return [_EndedNight(*row) for row in connection.execute(query)]


def _close(engine: Engine, settings: Settings, night: _EndedNight, on_progress: Callable[[], object]) -> ClosedNight:
    by_status = _count_by_status(engine, night.run_id)
    drift, drift_findings = _measure_drift(engine, settings, night)
    report = _get_report(engine, settings, night, drift, on_progress)
    findings = [*_check_shares(by_status), *drift_findings]
    if report.finding is not None:
        findings.append(report.finding)
    verdict = None if drift is None else str(drift.level)
    with write_transaction(engine) as connection:
        lock_night(connection, night.run_id)
        # A run that was resumed meanwhile stays open, and its night is closed when it ends again.
        still_ended = select(runs.c.run_id).where(runs.c.state.in_(ENDED_STATES))
        connection.execute(
            update(nights)
            .where(nights.c.run_id == night.run_id, nights.c.run_id.in_(still_ended))
            .values(
                closed_at=datetime.now(UTC),
                verdict=verdict,
                findings=findings,
                told_at=None if findings else datetime.now(UTC),
            )
        )
    log.info("night_closed", run=night.run, verdict=verdict, findings=len(findings), **by_status)
    return ClosedNight(night.run, by_status, verdict, report.address, tuple(findings))


def _count_by_status(engine: Engine, run_id: int) -> dict[str, int]:
    counts = select(gradings.c.status, func.count().label("images")).where(gradings.c.run_id == run_id)
    with read_transaction(engine) as connection:
        found = {row.status: row.images for row in connection.execute(counts.group_by(gradings.c.status))}
    return {str(status): found.get(status, 0) for status in Status if status is not Status.QUEUED}


def _check_shares(by_status: dict[str, int]) -> list[str]:
    """Report a share of failed or ungradable images that is above its limit."""
    ungradable = by_status[Status.UNGRADABLE]
    processed = by_status[Status.GRADED] + ungradable
    failed = by_status[Status.FAILED] + by_status[Status.QUARANTINED]
    findings = []
    if failed > MAX_FAILED_SHARE * (processed + failed):
        findings.append(f"{failed:,} of {processed + failed:,} images failed (limit {MAX_FAILED_SHARE:.0%})")
    if ungradable > MAX_UNGRADABLE_SHARE * processed:
        findings.append(f"{ungradable:,} of {processed:,} images are ungradable (limit {MAX_UNGRADABLE_SHARE:.0%})")
    return findings


def _measure_drift(engine: Engine, settings: Settings, night: _EndedNight) -> tuple[Drift | None, list[str]]:
    if night.model_id is None:
        return None, []
    try:
        from worker.evaluation.drift.nights import measure_night_drift
        from worker.evaluation.drift.psi import DriftLevel

        drift = measure_night_drift(engine, night.run, night.programme, night.date, settings.drift_baseline)
    except ModuleNotFoundError as error:
        return None, [f"drift was not measured: {error.name} is missing, install the extra `evaluate`"]
    except RunError as error:
        return None, [f"drift was not measured: {error.detail}"]
    if drift is None or drift.level is not DriftLevel.DRIFT:
        return drift, []
    drifted = ", ".join(f"{f.name} {f.psi:.2f}" for f in drift.features if f.level is DriftLevel.DRIFT)
    return drift, [f"the images have drifted since {drift.baseline}: population stability index of {drifted}"]


def _get_report(
    engine: Engine, settings: Settings, night: _EndedNight, drift: Drift | None, on_progress: Callable[[], object]
) -> NightReport:
    if settings.reports_dir is None:
        return find_report(engine, settings, night.run_id, night.run)
    if night.model_id is None:  # no image of the run was leased
        return NightReport(None)
    folder = settings.reports_dir.absolute() / night.run
    return write_to_folder(engine, settings, night.run, folder, drift, on_progress)
