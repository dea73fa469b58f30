"""How many workers a night needs: images over time, by the pace that this ledger has seen."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from sqlalchemy import Engine, func, select

from worker.core.errors import UsageError
from worker.core.vocabulary import Queue, RunState
from worker.ledger.database import read_transaction
from worker.ledger.runs import find_run
from worker.ledger.schema import gradings, runs
from worker.ledger.throughput import read_throughput

MIN_RUN_IMAGES = 100
"""Of a run that a pace is taken from: a shorter one is mostly its beginning and its end."""


@dataclass(frozen=True, slots=True)
class WorkerRate:
    """Images per second of one worker. `run`: where that was seen, with its settled `images`; None if it was given."""

    rate: float
    run: str | None = None
    images: int = 0


@dataclass(frozen=True, slots=True)
class CapacityEstimate:
    """`needed`: images per second. `done`: when so many workers would be through, at their full pace."""

    images: int
    begin: time
    by: time
    measured: WorkerRate
    spare: float
    needed: float
    workers: int
    done: time


def estimate_capacity(images: int, begin: time, by: time, measured: WorkerRate, spare: float) -> CapacityEstimate:
    """Workers for `images` between two times of day, the second after the first, with a share of their time to spare.

    workers = images / (seconds x images/s of a worker x (1 - spare)), rounded up.
    """
    first = datetime.combine(datetime(2000, 1, 1, tzinfo=UTC), begin)
    last = datetime.combine(first, by)
    seconds = ((last - first) % timedelta(days=1) or timedelta(days=1)).total_seconds()
    workers = math.ceil(images / (seconds * measured.rate * (1 - spare)))
    done = first + timedelta(seconds=images / (workers * measured.rate))
    return CapacityEstimate(images, begin, by, measured, spare, images / seconds, workers, done.time())


def read_worker_rate(engine: Engine, like: str | None, workers: int) -> WorkerRate:
    """What one of `workers` did in the run `like`, else in the latest finished one that is long enough.

    Raises RunError for an unknown run, UsageError where no pace can be told.
    """
    run = find_run(engine, like).name if like is not None else _latest(engine)
    if run is not None:
        with read_transaction(engine) as connection:
            run_id = connection.execute(select(runs.c.run_id).where(runs.c.name == run)).scalar_one()
            rate = read_throughput(connection, run_id, datetime.now(UTC)).overall
            settled = select(func.count()).where(gradings.c.run_id == run_id, gradings.c.settled_at.is_not(None))
            images = connection.execute(settled).scalar_one()
        if rate is not None and images >= MIN_RUN_IMAGES:
            return WorkerRate(rate / workers, run, images)
        raise UsageError(f"run {run} settled {images} images, a pace needs {MIN_RUN_IMAGES}: give --rate instead")
    raise UsageError(f"no finished run of {MIN_RUN_IMAGES} images to learn a worker's pace from: give --rate")


def _latest(engine: Engine) -> str | None:
    settled = select(func.count()).where(gradings.c.run_id == runs.c.run_id, gradings.c.settled_at.is_not(None))
    long_enough = (
        select(runs.c.name)
        .where(runs.c.state == RunState.FINISHED, runs.c.queue == Queue.BULK)
        .where(settled.scalar_subquery() >= MIN_RUN_IMAGES)
        .order_by(runs.c.run_id.desc())
        .limit(1)
    )
    with read_transaction(engine) as connection:
        name: str | None = connection.scalar(long_enough)
    return name
