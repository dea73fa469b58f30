"""Log the progress of a worker: settled images, throughput, failures and the estimated remaining time."""

from collections.abc import Callable, Mapping
from time import monotonic

import structlog
from sqlalchemy import Engine, func, select

from worker.core.vocabulary import RunState, Status
from worker.ledger.database import read_transaction
from worker.ledger.schema import gradings, runs

LOG_EVERY_S = 30.0

log = structlog.get_logger(__name__)


class ProgressLogger:
    """Writes one log line per interval in which this worker settled images."""

    def __init__(self, engine: Engine, settled: Callable[[], Mapping[Status, int]]) -> None:
        """settled: returns the number of images that this worker has settled since its start, by status."""
        self._engine = engine
        self._settled = settled
        self._logged_at, self._logged_images = monotonic(), 0
        self._queued: int | None = None

    def log(self) -> None:
        """Log the progress since the previous call, if there was any. Raises DatabaseError."""
        by_status = self._settled()
        done = sum(by_status.values())
        now, left = monotonic(), None
        if done > self._logged_images:
            left = count_queued_images(self._engine)
            seconds = now - self._logged_at
            # The decrease of the queue by all workers, since others may grade the same runs.
            decrease = 0 if self._queued is None else self._queued - left
            log.info(
                "progress",
                images=done,
                not_graded=done - by_status[Status.GRADED],
                images_per_s=round((done - self._logged_images) / seconds, 1),
                left=left,
                **({"minutes_left": round(left / decrease * seconds / 60, 1)} if decrease > 0 else {}),
            )
        self._logged_at, self._logged_images, self._queued = now, done, left


def count_queued_images(engine: Engine) -> int:
    """Count the queued images of all open and running runs."""
    query = (
        select(func.count())
        .select_from(gradings)
        .join(runs, runs.c.run_id == gradings.c.run_id)
        .where(gradings.c.status == Status.QUEUED, runs.c.state.in_((RunState.OPEN, RunState.RUNNING)))
    )
    with read_transaction(engine) as connection:
        return connection.execute(query).scalar_one()
