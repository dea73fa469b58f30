"""Measure the throughput of a run over its busy time: the time in which workers held images of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from worker.core.vocabulary import Status
from worker.ledger.schema import gradings

WINDOW = timedelta(seconds=60)
MIN_IMAGES = 100
"""Settled images below which no rate is given: the first chunks say little about the next ones."""

_BY_A_WORKER = gradings.c.status.in_((Status.GRADED, Status.UNGRADABLE, Status.FAILED))


@dataclass(frozen=True, slots=True)
class BusyTime:
    """Work on a run: number of images, and seconds in which at least one worker held an image of it."""

    images: int
    seconds: float

    @property
    def rate(self) -> float | None:
        """Images per second; None below MIN_IMAGES."""
        return self.images / self.seconds if self.images >= MIN_IMAGES and self.seconds > 0 else None


@dataclass(frozen=True, slots=True)
class Throughput:
    """Images per second, None if unknown.

    recent: images of the last minute over it, or over the time since their first lease if that is shorter. busy: work
    on the whole run, which is not read while images were settled in the last minute.
    """

    recent: float | None = None
    busy: BusyTime | None = None

    @property
    def overall(self) -> float | None:
        """Images over the busy time."""
        return None if self.busy is None else self.busy.rate


def read_recent_rate(connection: Connection, run_id: int, settled: int, now: datetime) -> float | None:
    """Read the images/s of the last minute; None if nothing was settled in it. settled: settled images of the run."""
    if settled < MIN_IMAGES:
        return None
    images, first_lease = connection.execute(
        select(func.count(), func.min(gradings.c.leased_at)).where(
            gradings.c.run_id == run_id, gradings.c.settled_at > now - WINDOW, _BY_A_WORKER
        )
    ).one()
    start = now - WINDOW if first_lease is None else max(first_lease, now - WINDOW)
    return images / (now - start).total_seconds() if images and now > start else None


def read_busy_time(connection: Connection, run_id: int) -> BusyTime | None:
    """Read the work on a run, from all its images; None if none was settled since leases have a time."""
    chunks = connection.execute(
        # The images of a chunk are leased at one time.
        select(gradings.c.leased_at, func.max(gradings.c.settled_at).label("until"), func.count().label("images"))
        .where(gradings.c.run_id == run_id, _BY_A_WORKER, gradings.c.leased_at.is_not(None))
        .group_by(gradings.c.leased_at)
        .order_by(gradings.c.leased_at)
    ).all()
    busy = measure_union((chunk.leased_at, chunk.until) for chunk in chunks)
    return BusyTime(sum(chunk.images for chunk in chunks), busy.total_seconds()) if chunks else None


def measure_union(intervals: Iterable[tuple[datetime, datetime]]) -> timedelta:
    """Return the time that at least one of the intervals covers. intervals: (start, end), sorted by start."""
    total, covered_until = timedelta(0), None
    for start, end in intervals:
        begin = start if covered_until is None else max(start, covered_until)
        if end > begin:
            total += end - begin
            covered_until = end
    return total
