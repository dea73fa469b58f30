"""Tell Prometheus what the ledger and the broker know: what waits, how long, and what became of the images.

It needs no worker: the alarm that nobody works has to come from somebody else.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection, Engine, func, or_, select, text

from producer.exporter.night_metrics import tell_nights
from worker.core.errors import FundusError
from worker.core.vocabulary import Grade, Queue, RunState, Status
from worker.ledger.database import epoch_now, read_transaction
from worker.ledger.schema import RECONCILER_LOCK, gradings, locks, runs

GOING_ON = (RunState.OPEN, RunState.RUNNING)
MOST_ATTEMPTS_TOLD = 9
RECENT = timedelta(days=1)
"""Counts are of the runs that go on and of those that finished so lately: all of them would take ever longer."""


class LedgerCollector(Collector):
    """Looks at each scrape. Labels hold words of the vocabulary and error codes only, never a run, image or person."""

    def __init__(
        self, engine: Engine, waiting: Callable[[Queue], int], on_error: Callable[[FundusError], object]
    ) -> None:
        """`waiting` gives the messages on a queue, or raises BrokerError; `on_error` hears of each failed look."""
        self._engine = engine
        self._waiting = waiting
        self._on_error = on_error

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering it must not ask the ledger."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Every gauge; a service that does not answer costs its own gauges alone, and its `up` is 0."""
        started = time.perf_counter()
        yield from self._guarded("ledger", self._ledger)
        yield from self._guarded("broker", self._broker)
        seconds = time.perf_counter() - started
        yield _gauge("fundus_exporter_seconds", "What this look took.", seconds)

    def _guarded(self, service: str, look: Callable[[], list[Metric]]) -> Iterator[Metric]:
        try:
            found = look()
        except FundusError as error:
            self._on_error(error)
            found = []
        yield from found
        yield _gauge(f"fundus_{service}_up", f"Whether the {service} answers.", float(bool(found)))

    def _ledger(self) -> list[Metric]:
        now = datetime.now(UTC)
        with read_transaction(self._engine) as connection:
            return [
                *_runs(connection, now),
                *_images(connection, now),
                *_workers(connection),
                *tell_nights(connection, now - RECENT),
                _size(connection),
            ]

    def _broker(self) -> list[Metric]:
        metric = GaugeMetricFamily("fundus_queue_messages", "Messages that no worker holds.", labels=["queue"])
        for queue in Queue:
            metric.add_metric([queue], self._waiting(queue))
        return [metric]


def _runs(connection: Connection, now: datetime) -> Iterator[Metric]:
    states = select(runs.c.state, func.count().label("runs")).where(runs.c.state.in_(GOING_ON)).group_by(runs.c.state)
    counts = {row.state: row.runs for row in connection.execute(states)}
    metric = GaugeMetricFamily("fundus_runs", "Runs that are not over.", labels=["state"])
    for state in GOING_ON:
        metric.add_metric([state], counts.get(state, 0))
    yield metric

    queued = GaugeMetricFamily("fundus_queued_images", "Images that are not settled yet.", labels=["queue"])
    waiting = (
        select(runs.c.queue, runs.c.run_id, runs.c.created_at, func.count().label("images"))
        .join(gradings, gradings.c.run_id == runs.c.run_id)
        .where(runs.c.state.in_(GOING_ON), gradings.c.status == Status.QUEUED)
        .group_by(runs.c.queue, runs.c.run_id, runs.c.created_at)
    )
    rows = connection.execute(waiting).all()
    images = Counter[str]()
    for row in rows:
        images[row.queue] += row.images
    for queue in Queue:
        queued.add_metric([queue], images[queue])
    yield queued
    oldest = GaugeMetricFamily(
        "fundus_oldest_queued_seconds", "Age of the oldest run that has images to settle.", labels=["queue"]
    )
    for queue in Queue:
        ages = ((now - row.created_at).total_seconds() for row in rows if row.queue == queue)
        oldest.add_metric([queue], max(ages, default=0.0))
    yield oldest
    latest = connection.scalar(
        select(func.max(gradings.c.settled_at)).where(
            gradings.c.run_id.in_([row.run_id for row in rows]), gradings.c.settled_at.is_not(None)
        )
    )
    # A run that nobody has begun stands still since it was enqueued.
    since = latest or min((row.created_at for row in rows), default=now)
    idle = (now - since).total_seconds() if rows else 0.0
    yield _gauge("fundus_idle_seconds", "Since an image was last settled, while some are queued.", max(idle, 0.0))


def _images(connection: Connection, now: datetime) -> Iterator[Metric]:
    recent = select(runs.c.run_id).where(or_(runs.c.state.in_(GOING_ON), runs.c.finished_at > now - RECENT))
    of_these = gradings.c.run_id.in_(recent)
    by_status, by_grade, by_attempts = Counter[str](), Counter[int](), Counter[int]()
    kinds = (gradings.c.status, gradings.c.grade, gradings.c.attempts)
    counts = select(*kinds, func.count()).where(of_these).group_by(*kinds)
    for status, grade, attempts, count in connection.execute(counts):
        by_status[status] += count
        by_attempts[min(attempts, MOST_ATTEMPTS_TOLD)] += count
        if grade is not None:
            by_grade[grade] += count
    statuses = GaugeMetricFamily("fundus_images", "Images of current and recent runs.", labels=["status"])
    for status in Status:
        statuses.add_metric([status], by_status[status])
    yield statuses
    grades = GaugeMetricFamily("fundus_graded_images", "Graded images of current and recent runs.", labels=["grade"])
    for grade in Grade:
        grades.add_metric([str(int(grade))], by_grade[grade])
    yield grades
    begun = GaugeMetricFamily(
        "fundus_attempted_images", "Images of current and recent runs, by times begun.", labels=["attempts"]
    )
    for attempts, count in sorted(by_attempts.items()):
        begun.add_metric([str(attempts)], count)
    yield begun
    codes = GaugeMetricFamily("fundus_errors", "Images without a grade, by code.", labels=["status", "code"])
    errors = (
        select(gradings.c.status, gradings.c.error_code, func.count())
        .where(
            of_these,
            gradings.c.status.in_((Status.UNGRADABLE, Status.FAILED, Status.QUARANTINED)),
        )
        .group_by(gradings.c.status, gradings.c.error_code)
    )
    for status, code, count in connection.execute(errors):
        codes.add_metric([status, code], count)
    yield codes


def _workers(connection: Connection) -> Iterator[Metric]:
    late = select(func.count()).where(
        gradings.c.status == Status.QUEUED, gradings.c.lease_token.is_not(None), gradings.c.due_at < epoch_now()
    )
    yield _gauge("fundus_expired_leases", "Images whose worker went silent.", connection.scalar(late) or 0)
    held = select(func.count()).where(locks.c.name == RECONCILER_LOCK, locks.c.until > epoch_now())
    active = connection.scalar(held) or 0
    yield _gauge("fundus_reconciler_active", "1 while a reconciler is active in any worker, else 0.", active)


def _size(connection: Connection) -> Metric:
    size = {
        "postgresql": "SELECT pg_database_size(current_database())",
        "sqlite": "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    }[connection.dialect.name]
    return _gauge("fundus_ledger_bytes", "Size of the ledger.", float(connection.scalar(text(size)) or 0))


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)
