"""Estimate the workers that a night needs from the grading rate of an earlier run."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from sqlalchemy import Engine, func, select

from worker.core.errors import UsageError
from worker.core.vocabulary import Queue, RunState
from worker.ledger.database import read_transaction
from worker.ledger.runs import find_run
from worker.ledger.schema import gradings, runs
from worker.ledger.throughput import MIN_IMAGES, read_busy_time

PROCESS_MS = 18.8
"""CPU time of a worker process for a photograph: fetch, draw, encode, upload, settle. One interpreter does no more."""
DECODE_MS = 39.4
"""CPU time of the decoding processes for a photograph of 4288 x 2848 pixels.

Both were measured by `tests.benchmarks.process_cost --input full` on two virtual cores of an Intel Xeon at 2.80 GHz
that were busy with nothing else, with a store on the same machine. Faster cores need half of it: see `end_to_end`.
"""


@dataclass(frozen=True, slots=True)
class WorkerRate:
    """Grading rate of one worker.

    rate: images per second. run: where the rate was measured, None if it was given. images: number it rests on.
    limited_by: what is slower than the device, in words; None if nothing is.
    """

    rate: float
    run: str | None = None
    images: int = 0
    limited_by: str | None = None


@dataclass(frozen=True, slots=True)
class CapacityEstimate:
    """Workers that a night needs.

    spare: share of the time kept free, in [0, 1). needed: images per second of all workers. done: time of day at which
    `workers` would be finished at their full rate.
    """

    images: int
    begin: time
    by: time
    measured: WorkerRate
    spare: float
    needed: float
    workers: int
    done: time


def estimate_capacity(images: int, begin: time, by: time, measured: WorkerRate, spare: float) -> CapacityEstimate:
    """Return the workers needed to grade `images` between two times of day.

    workers = images / (seconds x images/s of a worker x (1 - spare)), rounded up. If `by` is not after `begin`, it is a
    time of the next day. spare: share of the time to keep free, in [0, 1).
    """
    first = datetime.combine(datetime(2000, 1, 1, tzinfo=UTC), begin)
    last = datetime.combine(first, by)
    seconds = ((last - first) % timedelta(days=1) or timedelta(days=1)).total_seconds()
    workers = math.ceil(images / (seconds * measured.rate * (1 - spare)))
    done = first + timedelta(seconds=images / (workers * measured.rate))
    return CapacityEstimate(images, begin, by, measured, spare, images / seconds, workers, done.time())


def limit_rate(device: float, processes: int, cores: int) -> WorkerRate:
    """Return the rate of a worker whose device grades `device` images/s: that of the slowest part.

    processes: of `fundus worker --processes`. cores: that the worker may use.
    """
    limits = {
        None: device,
        f"{processes} worker process{'es' * (processes > 1)}": processes * 1000 / PROCESS_MS,
        f"{cores} core{'s' * (cores > 1)}": cores * 1000 / (PROCESS_MS + DECODE_MS),
    }
    slowest = min(limits, key=lambda name: limits[name])
    return WorkerRate(limits[slowest], limited_by=slowest)


def read_worker_rate(engine: Engine, like: str | None, workers: int) -> WorkerRate:
    """Return the rate of one of `workers` in the run `like`, or in the latest finished bulk run of at least 100 images.

    Raises RunError for an unknown run, UsageError if no rate can be measured.
    """
    run = find_run(engine, like).name if like is not None else _find_latest(engine)
    if run is not None:
        with read_transaction(engine) as connection:
            run_id = connection.execute(select(runs.c.run_id).where(runs.c.name == run)).scalar_one()
            busy = read_busy_time(connection, run_id)
        if busy is not None and busy.rate is not None:
            return WorkerRate(busy.rate / workers, run, busy.images)
        images = 0 if busy is None else busy.images
        raise UsageError(f"run {run} has {images} images with known times, a rate needs {MIN_IMAGES}: give --rate")
    raise UsageError(f"no finished run of {MIN_IMAGES} images to measure the rate of a worker: give --rate")


def _find_latest(engine: Engine) -> str | None:
    timed = select(func.count()).where(
        gradings.c.run_id == runs.c.run_id, gradings.c.settled_at.is_not(None), gradings.c.leased_at.is_not(None)
    )
    long_enough = (
        select(runs.c.name)
        .where(runs.c.state == RunState.FINISHED, runs.c.queue == Queue.BULK)
        .where(timed.scalar_subquery() >= MIN_IMAGES)
        .order_by(runs.c.run_id.desc())
        .limit(1)
    )
    with read_transaction(engine) as connection:
        name: str | None = connection.scalar(long_enough)
    return name
