"""Record which workers run, with their model and queues, and which ended without saying so.

A worker of version 0.1 does not appear here.
"""

from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, Engine, and_, delete, func, insert, select, update

from worker.core.vocabulary import Precision
from worker.ledger.database import epoch_now, write_transaction
from worker.ledger.schema import workers

LOADING_S = 600.0
"""Time in which a worker loads its model."""
LOST_AFTER_S = 60.0
"""A worker that has not postponed its time for so long has died; after an outage of the ledger, all need some time."""
RECENT_S = 3600.0
"""Deaths are counted for this time."""
KEPT_S = 86400.0


def announce_worker(engine: Engine, worker_id: str, queues: str) -> None:
    """Record that a worker starts to load its model, and forget those of past days. Raises DatabaseError.

    queues: names as in FUNDUS_QUEUES.
    """
    with write_transaction(engine) as connection:
        connection.execute(delete(workers).where(workers.c.until < epoch_now() - KEPT_S))
        connection.execute(
            insert(workers).values(
                worker_id=worker_id, queues=queues, started_at=datetime.now(UTC), until=epoch_now() + LOADING_S
            )
        )


def renew_presence(
    engine: Engine, worker_id: str, model_id: str, precision: Precision | None, *, lease_s: float
) -> None:
    """Record that a worker runs with this model and precision, for `lease_s` seconds. Raises DatabaseError."""
    with write_transaction(engine) as connection:
        connection.execute(
            update(workers)
            .where(workers.c.worker_id == worker_id)
            .values(model_id=model_id, precision=precision, until=epoch_now() + lease_s)
        )


def end_presence(engine: Engine, worker_id: str) -> None:
    """Record that a worker ends as it should. Raises DatabaseError."""
    with write_transaction(engine) as connection:
        connection.execute(update(workers).where(workers.c.worker_id == worker_id).values(stopped_at=datetime.now(UTC)))


def is_present() -> ColumnElement[bool]:
    """Build the condition for a worker that runs and has loaded its model."""
    return and_(workers.c.stopped_at.is_(None), workers.c.until > epoch_now(), workers.c.model_id.is_not(None))


def count_workers(connection: Connection) -> tuple[int, int]:
    """Return the number of workers that run, and of those that died within the last hour."""
    lost = epoch_now() - LOST_AFTER_S
    died = and_(workers.c.stopped_at.is_(None), workers.c.until < lost, workers.c.until > lost - RECENT_S)
    running, dead = connection.execute(
        select(func.count().filter(is_present()), func.count().filter(died)).select_from(workers)
    ).one()
    return running, dead
