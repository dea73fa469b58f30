"""Which run owes a report, who writes it now, and where it lies.

A finished run owes one until it is written. Whoever writes it holds a lease and renews it, as with images: a writer
that dies leaves the report to the next, after a few of them the run goes without, and two never write it at once.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Engine, Select, insert, or_, select, update

from worker.core.errors import RunError
from worker.core.storage.keys import report_prefix
from worker.core.vocabulary import Action, RunState
from worker.ledger.audit_log import record_action
from worker.ledger.database import epoch_now, read_transaction, write_transaction
from worker.ledger.schema import reports, runs

GRACE_S = 30.0
"""How long the message of whoever finished the run may be on its way."""


@dataclass(frozen=True, slots=True)
class ReportLease:
    """One report that this writer alone may write now."""

    token: str
    run_id: int
    run_name: str
    prefix: str


def schedule_report(connection: Connection, run_id: int) -> None:
    """The run owes a report from now on, also when an older one is there or under way."""
    owed: dict[str, Any] = {"due_at": epoch_now() + GRACE_S, "lease_token": None, "attempts": 0}
    again = connection.execute(update(reports).where(reports.c.run_id == run_id).values(owed))
    if again.rowcount == 0:
        connection.execute(insert(reports).values(run_id=run_id, **owed))


def is_report_pending(connection: Connection, run_id: int) -> bool:
    """Whether a report of the run is still to be written."""
    return (
        connection.scalar(select(reports.c.run_id).where(reports.c.run_id == run_id, reports.c.due_at.is_not(None)))
        is not None
    )


def reschedule_report(connection: Connection, run_id: int, *, after_s: float) -> None:
    """What the run's report says is out of date: it is owed in `after_s` seconds, and each call puts that off anew.

    A run that has no report, and owes none, gets none.
    """
    known = or_(reports.c.written_at.is_not(None), reports.c.due_at.is_not(None))
    owed = {"due_at": epoch_now() + after_s, "lease_token": None, "attempts": 0}
    connection.execute(update(reports).where(reports.c.run_id == run_id, known).values(owed))


def lease_report(engine: Engine, run_id: int, *, lease_s: float) -> ReportLease | None:
    """Lease the report; None when none is owed or another writer has it.

    Its place is in the ledger from then on: nothing is ever written that no row names.
    """
    token = str(uuid4())
    with write_transaction(engine) as connection:
        name = connection.execute(
            select(runs.c.name).where(runs.c.run_id == run_id, runs.c.state == RunState.FINISHED)
        ).scalar()
        if name is None:
            return None
        taken = connection.execute(
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
    return ReportLease(token, run_id, name, report_prefix(name)) if taken.rowcount == 1 else None


def is_being_written(engine: Engine, run_id: int) -> bool:
    """Whether a writer holds the report's lease now."""
    with read_transaction(engine) as connection:
        return connection.execute(_held_now(run_id)).first() is not None


def request_report(engine: Engine, run_name: str, *, lease_s: float) -> ReportLease:
    """Lease a report that a person wants now, also of a run that has one.

    Raises RunError for a run that is not there or not finished, and while another writer has it.
    """
    with write_transaction(engine) as connection:
        run = connection.execute(select(runs.c.run_id, runs.c.state).where(runs.c.name == run_name)).first()
        if run is None:
            raise RunError(f"no run {run_name!r}; `fundus status` lists them")
        if run.state != RunState.FINISHED:
            raise RunError(f"run {run_name} is {run.state}: --out DIR writes what it has so far")
        if connection.execute(_held_now(run.run_id)).first() is None:
            schedule_report(connection, run.run_id)
    lease = lease_report(engine, run.run_id, lease_s=lease_s)
    if lease is None:
        raise RunError(f"the report of run {run_name} is being written just now")
    return lease


def renew_report(engine: Engine, lease: ReportLease, *, lease_s: float) -> bool:
    """Extend the lease; false when it is lost."""
    return _change(engine, lease, due_at=epoch_now() + lease_s)


def release_report(engine: Engine, lease: ReportLease, *, retry_after_s: float, counted: bool) -> None:
    """Give the report back unwritten. `counted`: whether that was an attempt: no service, no stop is to blame."""
    attempts: dict[str, Any] = {} if counted else {"attempts": reports.c.attempts - 1}
    _change(engine, lease, lease_token=None, due_at=epoch_now() + retry_after_s, **attempts)


def finish_report(engine: Engine, lease: ReportLease, *, out: str) -> bool:
    """The report is whole and lies at `out`; false when the lease was lost on the way."""
    with write_transaction(engine) as connection:
        record_action(connection, Action.EXPORT, run=lease.run_name, format="report", out=out)
        return _held(connection, lease, lease_token=None, due_at=None, written_at=datetime.now(UTC))


def claim_due_reports(connection: Connection, *, resend_after_s: float, max_attempts: int) -> list[tuple[int, str]]:
    """Runs whose report is due, as (run_id, name), and put off their next turn. Too many failures end it."""
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


def _held_now(run_id: int) -> Select[tuple[int]]:
    return select(reports.c.run_id).where(
        reports.c.run_id == run_id, reports.c.lease_token.is_not(None), reports.c.due_at > epoch_now()
    )


def _change(engine: Engine, lease: ReportLease, **values: Any) -> bool:
    with write_transaction(engine) as connection:
        return _held(connection, lease, **values)


def _held(connection: Connection, lease: ReportLease, **values: Any) -> bool:
    changed = connection.execute(
        update(reports).where(reports.c.run_id == lease.run_id, reports.c.lease_token == lease.token).values(values)
    )
    return changed.rowcount == 1
