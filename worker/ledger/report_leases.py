"""Schedule reports of runs and lease them to writers.

The report of a finished run is pending until it is written. Its writer holds a lease and renews it, as with images: two
workers never write a report at once, and when a writer dies, another one takes over. After several failed attempts the
report is given up.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Engine, Select, delete, insert, or_, select, update

from worker.core.errors import OverlapError, RunError
from worker.core.storage.keys import report_prefix
from worker.core.vocabulary import AuditAction, RunState
from worker.ledger.audit_log import record_action
from worker.ledger.database import epoch_now, write_transaction
from worker.ledger.schema import reports, runs

GRACE_S = 30.0
"""Time for the message of the worker that finished the run to arrive, before the reconciler sends another."""


@dataclass(frozen=True, slots=True)
class ReportLease:
    """A report that only this writer may write now. prefix: common prefix of its object keys."""

    token: str
    run_id: int
    run_name: str
    prefix: str


def schedule_report(connection: Connection, run_id: int) -> None:
    """Schedule a report of the run, also when an older one exists or is being written."""
    pending: dict[str, Any] = {"due_at": epoch_now() + GRACE_S, "lease_token": None, "attempts": 0}
    existing = connection.execute(update(reports).where(reports.c.run_id == run_id).values(pending))
    if existing.rowcount == 0:
        connection.execute(insert(reports).values(run_id=run_id, **pending))


def is_report_pending(connection: Connection, run_id: int) -> bool:
    """Whether a report of the run is scheduled or being written."""
    return (
        connection.scalar(select(reports.c.run_id).where(reports.c.run_id == run_id, reports.c.due_at.is_not(None)))
        is not None
    )


def reschedule_report(connection: Connection, run_id: int, *, after_s: float) -> None:
    """Schedule an outdated report again in `after_s` seconds; each call restarts the delay.

    Do nothing for a run without a written or pending report.
    """
    has_report = or_(reports.c.written_at.is_not(None), reports.c.due_at.is_not(None))
    pending = {"due_at": epoch_now() + after_s, "lease_token": None, "attempts": 0}
    connection.execute(update(reports).where(reports.c.run_id == run_id, has_report).values(pending))


def withdraw_reports(connection: Connection, run_ids: Collection[int]) -> None:
    """Mark the reports of these runs as neither written nor pending, so that no writer leases them.

    Raises OverlapError when one is being written.
    """
    of_runs = reports.c.run_id.in_(run_ids)
    connection.execute(select(reports.c.run_id).where(of_runs).with_for_update())
    is_leased = reports.c.lease_token.is_not(None) & (reports.c.due_at > epoch_now())
    names = select(runs.c.name).join(reports, reports.c.run_id == runs.c.run_id).where(of_runs, is_leased)
    if (busy := connection.scalar(names.limit(1))) is not None:
        raise OverlapError(f"the report of run {busy} is being written; fix: call it again when the report is written")
    connection.execute(update(reports).where(of_runs).values(due_at=None, lease_token=None, written_at=None))


def reschedule_withdrawn_reports(connection: Connection, run_ids: Collection[int]) -> None:
    """Schedule the reports of those of the runs that had one."""
    pending = {"due_at": epoch_now(), "lease_token": None, "attempts": 0}
    connection.execute(update(reports).where(reports.c.run_id.in_(run_ids)).values(pending))


def lease_report(engine: Engine, run_id: int, *, lease_s: float) -> ReportLease | None:
    """Lease the report; return None when none is pending or another writer holds the lease.

    The ledger stores the report's prefix from then on, so that every written object is known to a row. Raises
    DatabaseError.
    """
    token = str(uuid4())
    with write_transaction(engine) as connection:
        name = connection.execute(
            select(runs.c.name).where(runs.c.run_id == run_id, runs.c.state == RunState.FINISHED)
        ).scalar()
        if name is None:
            return None
        leased = connection.execute(
            update(reports)
            .where(
                reports.c.run_id == run_id,
                reports.c.due_at.is_not(None),
                or_(reports.c.lease_token.is_(None), reports.c.due_at < epoch_now()),
            )
            .values(
                lease_token=token,
                due_at=epoch_now() + lease_s,
                attempts=reports.c.attempts + 1,
                prefix=report_prefix(name),
                written_at=None,
            )
        )
    return ReportLease(token, run_id, name, report_prefix(name)) if leased.rowcount == 1 else None


def is_report_leased(connection: Connection, run_id: int) -> bool:
    """Whether a writer holds the report's lease now."""
    return connection.execute(_active_lease(run_id)).first() is not None


def lease_report_for_deletion(
    connection: Connection, run_id: int, run_name: str, *, lease_s: float
) -> ReportLease | None:
    """Lease a report in order to delete it; return None when the run has none or a writer holds its lease."""
    token = str(uuid4())
    leased = connection.execute(
        update(reports)
        .where(reports.c.run_id == run_id, or_(reports.c.lease_token.is_(None), reports.c.due_at < epoch_now()))
        .values(lease_token=token, due_at=epoch_now() + lease_s)
    )
    return ReportLease(token, run_id, run_name, report_prefix(run_name)) if leased.rowcount else None


def delete_report_row(connection: Connection, lease: ReportLease) -> None:
    """Delete the row of a report whose objects were deleted, unless the lease was lost."""
    connection.execute(delete(reports).where(reports.c.run_id == lease.run_id, reports.c.lease_token == lease.token))


def keep_report(engine: Engine, lease: ReportLease) -> None:
    """Release a report that could not be deleted; it is not written again. Raises DatabaseError."""
    _update(engine, lease, lease_token=None, due_at=None)


def request_report(engine: Engine, run_name: str, *, lease_s: float) -> ReportLease:
    """Schedule and lease a report immediately, also for a run that has one.

    Raises RunError for a run that is unknown or not finished, or whose report is being written; DatabaseError.
    """
    with write_transaction(engine) as connection:
        run = connection.execute(select(runs.c.run_id, runs.c.state).where(runs.c.name == run_name)).first()
        if run is None:
            raise RunError(f"no run {run_name!r}; `fundus status` lists them")
        if run.state != RunState.FINISHED:
            raise RunError(f"run {run_name} is {run.state}; --out DIR writes a report of its current images")
        if connection.execute(_active_lease(run.run_id)).first() is None:
            schedule_report(connection, run.run_id)
    lease = lease_report(engine, run.run_id, lease_s=lease_s)
    if lease is None:
        raise RunError(f"the report of run {run_name} is being written by another process")
    return lease


def renew_report(engine: Engine, lease: ReportLease, *, lease_s: float) -> bool:
    """Extend the lease; return false when it was lost. Raises DatabaseError."""
    return _update(engine, lease, due_at=epoch_now() + lease_s)


def release_report(engine: Engine, lease: ReportLease, *, retry_after_s: float, counted: bool) -> None:
    """Release the lease without a report, which is due again in `retry_after_s` seconds.

    counted: whether the attempt counts; false after a service error or a stop of the worker. Raises DatabaseError.
    """
    attempts: dict[str, Any] = {} if counted else {"attempts": reports.c.attempts - 1}
    _update(engine, lease, lease_token=None, due_at=epoch_now() + retry_after_s, **attempts)


def finish_report(engine: Engine, lease: ReportLease, *, out: str) -> bool:
    """Mark the report as written and record it in the audit log; do neither and return false when the lease was lost.

    out: URI or path of the report. Raises DatabaseError.
    """
    with write_transaction(engine) as connection:
        is_held = _update_if_held(connection, lease, lease_token=None, due_at=None, written_at=datetime.now(UTC))
        if is_held:
            record_action(connection, AuditAction.EXPORT, run=lease.run_name, format="report", out=out)
    return is_held


def claim_due_reports(connection: Connection, *, resend_after_s: float, max_attempts: int) -> list[tuple[int, str]]:
    """Claim the reports that are due and return their runs as (run_id, name).

    A claimed report is due again in `resend_after_s` seconds. A report with `max_attempts` failed attempts is given up.
    """
    finished = select(runs.c.run_id).where(runs.c.state == RunState.FINISHED)
    due = (reports.c.due_at < epoch_now()) & reports.c.run_id.in_(finished)
    connection.execute(
        update(reports).where(due, reports.c.attempts >= max_attempts).values(due_at=None, lease_token=None)
    )
    claimed = (
        connection.execute(
            update(reports)
            .where(due)
            .values(lease_token=None, due_at=epoch_now() + resend_after_s)
            .returning(reports.c.run_id)
        )
        .scalars()
        .all()
    )
    names = connection.execute(select(runs.c.run_id, runs.c.name).where(runs.c.run_id.in_(claimed))).all()
    return [(row.run_id, row.name) for row in names]


def _active_lease(run_id: int) -> Select[tuple[int]]:
    return select(reports.c.run_id).where(
        reports.c.run_id == run_id, reports.c.lease_token.is_not(None), reports.c.due_at > epoch_now()
    )


def _update(engine: Engine, lease: ReportLease, **values: Any) -> bool:
    with write_transaction(engine) as connection:
        return _update_if_held(connection, lease, **values)


def _update_if_held(connection: Connection, lease: ReportLease, **values: Any) -> bool:
    changed = connection.execute(
        update(reports).where(reports.c.run_id == lease.run_id, reports.c.lease_token == lease.token).values(values)
    )
    return changed.rowcount == 1
