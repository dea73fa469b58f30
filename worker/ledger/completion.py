"""Detect in SQL that a run has no queued image left, and finish it."""

from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, func, select, update

from worker.core.vocabulary import Queue, RunState, Status
from worker.ledger.report_leases import schedule_report
from worker.ledger.runs import lock_run
from worker.ledger.schema import gradings, runs


def finish_if_settled(connection: Connection, run_id: int, *, report: bool) -> bool:
    """Finish a running run that has no queued image left; return true to the one caller that finished it.

    report: schedule a report, except for a run of one live image. Users look at such an image in the console, and its
    report would cost four objects and a second decoding.

    Call it in a new transaction after the settling one has committed. Otherwise two workers that settle the last two
    chunks at the same time would each still see the other's images as queued.
    """
    if lock_run(connection, run_id) != RunState.RUNNING:
        return False
    finished = connection.execute(
        update(runs)
        .where(runs.c.run_id == run_id, _is_settled())
        .values(state=RunState.FINISHED, finished_at=datetime.now(UTC))
    )
    if finished.rowcount != 1:
        return False
    if report and not _is_one_live_image(connection, run_id):
        schedule_report(connection, run_id)
    return True


def is_settled(connection: Connection, run_id: int) -> bool:
    """Whether the run is running and has no queued image left."""
    return connection.scalar(select(runs.c.run_id).where(runs.c.run_id == run_id, _is_settled())) is not None


def find_settled_runs(connection: Connection) -> list[int]:
    """Return the ids of the running runs that have no queued image left."""
    return list(connection.execute(select(runs.c.run_id).where(_is_settled())).scalars())


def _is_one_live_image(connection: Connection, run_id: int) -> bool:
    if connection.scalar(select(runs.c.queue).where(runs.c.run_id == run_id)) != Queue.LIVE:
        return False
    first_two = select(gradings.c.image_id).where(gradings.c.run_id == run_id).limit(2).subquery()
    return connection.scalar(select(func.count()).select_from(first_two)) == 1


def _is_settled() -> ColumnElement[bool]:
    # A scalar query instead of EXISTS, for which the planner ignores the order and reads the entries of settled images.
    last_queued = (
        select(gradings.c.position)
        .where(gradings.c.run_id == runs.c.run_id, gradings.c.status == Status.QUEUED)
        .order_by(gradings.c.position.desc())
        .limit(1)
    )
    return (runs.c.state == RunState.RUNNING) & last_queued.scalar_subquery().is_(None)
