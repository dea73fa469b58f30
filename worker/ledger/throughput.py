"""Measure the throughput of a run from the times at which its images were settled."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, func, select

from worker.ledger.schema import gradings

WINDOW = timedelta(seconds=60)
FIRST_CHUNK = timedelta(milliseconds=100)
"""Images settled this soon after the first one count as its chunk, which is settled within microseconds."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Images per second from the first settled image to the last, and in the last minute; None when unknown."""

    overall: float | None
    recent: float | None


def read_throughput(connection: Connection, run_id: int, now: datetime) -> Throughput:
    """Read the throughput of a run at `now`; an index answers it for runs of any size."""
    of_run = (gradings.c.run_id == run_id, gradings.c.settled_at.is_not(None))
    first = connection.execute(select(func.min(gradings.c.settled_at)).where(*of_run)).scalar()
    last = connection.execute(select(func.max(gradings.c.settled_at)).where(*of_run)).scalar()
    if first is None or last is None:
        return Throughput(None, None)
    # The first chunk does not count: the time that it took before `first` is unknown.
    after_first = _count(connection, run_id, gradings.c.settled_at > first + FIRST_CHUNK)
    since = max(first, now - WINDOW)
    recent = _count(connection, run_id, gradings.c.settled_at > max(first + FIRST_CHUNK, since))
    return Throughput(_rate(after_first, last - first), _rate(recent, now - since))


def _count(connection: Connection, run_id: int, condition: ColumnElement[bool]) -> int:
    counted = select(func.count()).select_from(gradings).where(gradings.c.run_id == run_id, condition)
    return connection.execute(counted).scalar_one()


def _rate(count: int, span: timedelta) -> float | None:
    seconds = span.total_seconds()
    return count / seconds if count and seconds > 0 else None
