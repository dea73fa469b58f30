"""Say in the log, now and then, how a worker is going: what it settled, how fast, what went wrong, how long still."""

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
    """`tell` is called again and again; it is silent while this worker settles nothing."""

    def __init__(self, engine: Engine, settled: Callable[[], Mapping[Status, int]]) -> None:
        """`settled`: the outcomes that this worker has written since its start."""
        self._engine = engine
        self._settled = settled
        self._logged_at, self._logged = monotonic(), 0
        self._left: int | None = None

    def log(self) -> None:
        """One line on the time since the last one. Raises DatabaseError."""
        by_status = self._settled()
        done = sum(by_status.values())
        now, left = monotonic(), None
        if done > self._logged:
            left = count_queued_images(self._engine)
            seconds = now - self._logged_at
            # What all workers together took away: others may be at the same runs.
            gone = 0 if self._left is None else self._left - left
            log.info(
                "progress",
                images=done,
                not_graded=done - by_status[Status.GRADED],
                images_per_s=round((done - self._logged) / seconds, 1),
                left=left,
                **({"minutes_left": round(left / gone * seconds / 60, 1)} if gone > 0 else {}),
            )
        self._logged_at, self._logged, self._left = now, done, left


def count_queued_images(engine: Engine) -> int:
    """The queued images of all runs that go on."""
    query = (
        select(func.count())
        .select_from(gradings)
        .join(runs, runs.c.run_id == gradings.c.run_id)
        .where(gradings.c.status == Status.QUEUED, runs.c.state.in_((RunState.OPEN, RunState.RUNNING)))
    )
    with read_transaction(engine) as connection:
        return connection.execute(query).scalar_one()
