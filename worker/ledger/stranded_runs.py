"""Find runs whose model no running worker has, while workers with other models run."""

from collections import Counter
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
    candidates = (
        select(runs.c.run_id, runs.c.name, runs.c.model_id, models.c.name.label("model_name"))
        .join(models, models.c.model_id == runs.c.model_id)
        .where(_has_no_worker())
        .order_by(runs.c.run_id)
    )
    found = [StrandedRun(*row) for row in connection.execute(candidates)]
    # One query for each run, answered by an index: usually there are no candidates.
    return [run for run in found if connection.scalar(select(_is_waiting(run.run_id)))]


def count_stranded_images(connection: Connection) -> dict[tuple[str, str], int]:
    """Return the number of queued images of stranded runs by name and id of the missing model."""
    images = Counter[tuple[str, str]]()
    for run in find_stranded_runs(connection):
        queued = select(func.count()).where(gradings.c.run_id == run.run_id, gradings.c.status == Status.QUEUED)
        images[run.model_name, run.model_id] += connection.scalar(queued) or 0
    return images


def _has_no_worker() -> ColumnElement[bool]:
    suitable = is_present() & (workers.c.model_id == runs.c.model_id) & workers.c.queues.contains(runs.c.queue)
    unfinished = runs.c.state.in_((RunState.OPEN, RunState.RUNNING))
    return unfinished & exists().where(is_present()) & ~exists().where(suitable)


def _is_waiting(run_id: int) -> ColumnElement[bool]:
    queued = (gradings.c.run_id == run_id) & (gradings.c.status == Status.QUEUED)
    leased = gradings.c.lease_token.is_not(None) & (gradings.c.due_at > epoch_now())
    return exists().where(queued) & ~exists().where(queued, leased)
