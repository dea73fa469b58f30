"""Record when a duty was last done, so that an alert can fire when it is not."""

from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, select, update

from worker.ledger.database import write_transaction
from worker.ledger.schema import duties
from worker.ledger.upserts import insert_or_ignore

RETENTION = "retention"
PUBLISH = "publish"


def record_duty(engine: Engine, name: str) -> None:
    """Record that a duty has just been done. Raises DatabaseError."""
    now = datetime.now(UTC)
    with write_transaction(engine) as connection:
        connection.execute(insert_or_ignore(connection, duties).values(name=name, finished_at=now))
        connection.execute(update(duties).where(duties.c.name == name).values(finished_at=now))


def read_duty(connection: Connection, name: str) -> datetime | None:
    """Return when a duty was last done; None if never."""
    return connection.scalar(select(duties.c.finished_at).where(duties.c.name == name))
