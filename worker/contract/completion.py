"""When is a run finished? Counted in SQL, in a transaction of its own, by whoever settled last."""

from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, exists, select, update

from worker.contract.reports import owe_report
from worker.contract.schema import gradings, runs
from worker.contract.vocabulary import RunState, Status


def finish_if_settled(connection: Connection, run_id: int, *, report: bool) -> bool:
    """Finish a running run that has no queued image left; true for the one caller that did.

    With `report` the run owes a report from then on, which that caller sends for.

    Call it after the settling transaction has committed: two workers that settle the last two chunks at the same
    time would each still see the other's images queued.
    """
    finished = connection.execute(
        update(runs)
        .where(runs.c.run_id == run_id, _is_settled())
        .values(state=RunState.FINISHED, finished_at=datetime.now(UTC))
    )
    if finished.rowcount != 1:
        return False
    if report:
        owe_report(connection, run_id)
    return True


def settled_runs(connection: Connection) -> list[int]:
    """The running runs that have no queued image left."""
    return list(connection.execute(select(runs.c.run_id).where(_is_settled())).scalars())


def _is_settled() -> ColumnElement[bool]:
    queued = exists().where(gradings.c.run_id == runs.c.run_id, gradings.c.status == Status.QUEUED)
    return (runs.c.state == RunState.RUNNING) & ~queued
