"""Find runs whose model or precision no running worker has, while other workers run."""

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, exists, func, or_, select

from worker.core.vocabulary import RunState, Status
from worker.ledger.database import epoch_now
from worker.ledger.schema import gradings, models, runs, workers
from worker.ledger.worker_presence import is_present


@dataclass(frozen=True, slots=True)
class StrandedRun:
    """A run that waits for a worker with its model and precision; None admits any."""

    run_id: int
    name: str
    model_id: str | None
    model_name: str | None
    precision: str | None

    @property
    def missing(self) -> str:
        """Name of the model and the precision that the worker must have."""
        model = self.model_name or "any model"
        return model if self.precision is None else f"{model} in {self.precision}"


def find_stranded_runs(connection: Connection) -> list[StrandedRun]:
    """Return the unfinished runs with queued images that no running worker may grade.

    A run of which a worker holds a lease has its worker, even if that is of a version that does not say so.
    """
    candidates = (
        select(runs.c.run_id, runs.c.name, runs.c.model_id, models.c.name.label("model_name"), runs.c.precision)
        .outerjoin(models, models.c.model_id == runs.c.model_id)
        .where(_has_no_worker())
        .order_by(runs.c.run_id)
    )
    found = [StrandedRun(*row) for row in connection.execute(candidates)]
    # One query for each run, answered by an index: usually there are no candidates.
    return [run for run in found if connection.scalar(select(_is_waiting(run.run_id)))]


def count_stranded_images(connection: Connection) -> dict[str, int]:
    """Return the number of queued images of stranded runs by what is missing."""
    images = Counter[str]()
    for run in find_stranded_runs(connection):
        queued = select(func.count()).where(gradings.c.run_id == run.run_id, gradings.c.status == Status.QUEUED)
        images[run.missing] += connection.scalar(queued) or 0
    return images


def _has_no_worker() -> ColumnElement[bool]:
    suitable = (
        is_present()
        & workers.c.queues.contains(runs.c.queue)
        & or_(runs.c.model_id.is_(None), workers.c.model_id == runs.c.model_id)
        & or_(runs.c.precision.is_(None), workers.c.precision == runs.c.precision)
    )
    demands = or_(runs.c.model_id.is_not(None), runs.c.precision.is_not(None))
    unfinished = runs.c.state.in_((RunState.OPEN, RunState.RUNNING))
    return unfinished & demands & exists().where(is_present()) & ~exists().where(suitable)


def _is_waiting(run_id: int) -> ColumnElement[bool]:
    queued = (gradings.c.run_id == run_id) & (gradings.c.status == Status.QUEUED)
    leased = gradings.c.lease_token.is_not(None) & (gradings.c.due_at > epoch_now())
    return exists().where(queued) & ~exists().where(queued, leased)
