"""Find runs whose model no running worker has, while workers with other models run."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, exists, func, select

from worker.core.vocabulary import RunState, Status
from worker.ledger.database import epoch_now
from worker.ledger.schema import gradings, models, runs, workers
from worker.ledger.worker_presence import is_present


@dataclass(frozen=True, slots=True)
class StrandedRun:
    """A run that waits for a worker with its model."""

    run_id: int
    name: str
    model_id: str
    model_name: str


def find_stranded_runs(connection: Connection) -> list[StrandedRun]:
    """Return the unfinished runs with queued images that no running worker may grade.

    A run of which a worker holds a lease has its worker, even if that is of a version that does not say so.
    """
    query = select(runs.c.run_id, runs.c.name, runs.c.model_id, models.c.name.label("model_name"))
    stranded = query.join(models, models.c.model_id == runs.c.model_id).where(_is_stranded()).order_by(runs.c.run_id)
    return [StrandedRun(*row) for row in connection.execute(stranded)]


def count_stranded_images(connection: Connection) -> dict[tuple[str, str], int]:
    """Return the number of queued images of stranded runs by name and id of the missing model."""
    query = (
        select(models.c.name, models.c.model_id, func.count())
        .select_from(gradings)
        .join(runs, runs.c.run_id == gradings.c.run_id)
        .join(models, models.c.model_id == runs.c.model_id)
        .where(gradings.c.status == Status.QUEUED, _is_stranded())
        .group_by(models.c.name, models.c.model_id)
    )
    return {(name, model_id): images for name, model_id, images in connection.execute(query)}


def _is_stranded() -> ColumnElement[bool]:
    waiting = gradings.alias()
    of_run = (waiting.c.run_id == runs.c.run_id) & (waiting.c.status == Status.QUEUED)
    leased = waiting.c.lease_token.is_not(None) & (waiting.c.due_at > epoch_now())
    suitable = is_present() & (workers.c.model_id == runs.c.model_id) & workers.c.queues.contains(runs.c.queue)
    return (
        runs.c.state.in_((RunState.OPEN, RunState.RUNNING))
        & exists().where(is_present())
        & ~exists().where(suitable)
        & exists().where(of_run)
        & ~exists().where(of_run, leased)
    )
