"""Metrics of the ledger and the broker: queued images, their age and the outcomes of recent runs.

They are exported without a worker, so that an alert about missing workers can fire.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection, Engine, func, or_, select, text

from producer.exporter.night_metrics import read_night_metrics
from worker.core.errors import FundusError
from worker.core.vocabulary import (
    TASK_QUEUES,
    Grade,
    PublicationKind,
    PublicationState,
    Queue,
    RunState,
    Status,
)
from worker.ledger.database import epoch_now, read_transaction
from worker.ledger.duty_record import RETENTION, read_duty
from worker.ledger.outbox_runs import count_publications
from worker.ledger.outbox_schema import outbox
from worker.ledger.schema import RECONCILER_LOCK, gradings, locks, runs
from worker.ledger.site_acceptance import describe_missing_validation
from worker.ledger.stranded_runs import count_stranded_images
from worker.ledger.worker_presence import count_workers

ACTIVE_STATES = (RunState.OPEN, RunState.RUNNING)
MAX_ATTEMPTS_LABEL = 9
RECENT = timedelta(days=1)
"""Outcomes are counted for active runs and those finished within this time, so that scrapes stay fast."""


class LedgerCollector(Collector):
    """Collector of ledger and broker metrics. No label holds the name of a run, an image or a person."""

    def __init__(
        self,
        engine: Engine,
        queue_depth: Callable[[str], int],
        on_error: Callable[[FundusError], object],
        *,
        expects_retention: bool = False,
    ) -> None:
        """queue_depth: returns the messages on a queue or raises BrokerError. on_error: called if a service fails.

        expects_retention: whether the settings ask for retention.
        """
        self._engine = engine
        self._expects_retention = expects_retention
        self._queue_depth = queue_depth
        self._on_error = on_error

    def describe(self) -> Iterator[Metric]:
        """Yield nothing, so that registration does not query the ledger."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics. If a service does not answer, its metrics are left out and its `up` is 0."""
        started = time.perf_counter()
        yield from self._collect_service("ledger", self._read_ledger)
        yield from self._collect_service("broker", self._read_broker)
        seconds = time.perf_counter() - started
        yield _gauge("fundus_exporter_seconds", "Duration of this scrape.", seconds)

    def _collect_service(self, service: str, read: Callable[[], list[Metric]]) -> Iterator[Metric]:
        try:
            found = read()
        except FundusError as error:
            self._on_error(error)
            found = []
        yield from found
        yield _gauge(f"fundus_{service}_up", f"Whether the {service} answers.", float(bool(found)))

    def _read_ledger(self) -> list[Metric]:
        now = datetime.now(UTC)
        with read_transaction(self._engine) as connection:
            return [
                *_run_metrics(connection, now),
                _validation_metric(connection, now),
                *_image_metrics(connection, now),
                *_worker_metrics(connection),
                *read_night_metrics(connection, now - RECENT),
                *self._retention_metrics(connection),
                *_publication_metrics(connection, now),
                _ledger_size(connection),
            ]

    def _retention_metrics(self, connection: Connection) -> Iterator[Metric]:
        last = read_duty(connection, RETENTION)
        yield _gauge(
            "fundus_last_retention_timestamp_seconds",
            "Time of the last complete pass of retention; 0 if there was none.",
            0.0 if last is None else last.timestamp(),
        )
        expected = float(self._expects_retention)
        yield _gauge("fundus_retention_expected", "1 if the settings ask for retention, else 0.", expected)

    def _read_broker(self) -> list[Metric]:
        metric = GaugeMetricFamily("fundus_queue_messages", "Messages that wait for a worker.", labels=["queue"])
        for queue in TASK_QUEUES:
            metric.add_metric([queue], self._queue_depth(queue))
        return [metric]


def _run_metrics(connection: Connection, now: datetime) -> Iterator[Metric]:
    states = (
        select(runs.c.state, func.count().label("runs")).where(runs.c.state.in_(ACTIVE_STATES)).group_by(runs.c.state)
    )
    counts = {row.state: row.runs for row in connection.execute(states)}
    metric = GaugeMetricFamily("fundus_runs", "Active runs.", labels=["state"])
    for state in ACTIVE_STATES:
        metric.add_metric([state], counts.get(state, 0))
    yield metric

    queued = GaugeMetricFamily("fundus_queued_images", "Images that are not settled.", labels=["queue"])
    queued_by_run = (
        select(runs.c.queue, runs.c.run_id, runs.c.created_at, func.count().label("images"))
        .join(gradings, gradings.c.run_id == runs.c.run_id)
        .where(runs.c.state.in_(ACTIVE_STATES), gradings.c.status == Status.QUEUED)
        .group_by(runs.c.queue, runs.c.run_id, runs.c.created_at)
    )
    rows = connection.execute(queued_by_run).all()
    images = Counter[str]()
    for row in rows:
        images[row.queue] += row.images
    for queue in Queue:
        queued.add_metric([queue], images[queue])
    yield queued
    oldest = GaugeMetricFamily(
        "fundus_oldest_queued_seconds", "Age of the oldest run with queued images.", labels=["queue"]
    )
    for queue in Queue:
        ages = ((now - row.created_at).total_seconds() for row in rows if row.queue == queue)
        oldest.add_metric([queue], max(ages, default=0.0))
    yield oldest
    yield from _wait_metrics(connection, now)
    latest = connection.scalar(
        select(func.max(gradings.c.settled_at)).where(
            gradings.c.run_id.in_([row.run_id for row in rows]), gradings.c.settled_at.is_not(None)
        )
    )
    # A run without a settled image has been idle since it was created.
    since = latest or min((row.created_at for row in rows), default=now)
    idle = (now - since).total_seconds() if rows else 0.0
    yield _gauge("fundus_idle_seconds", "Time since an image was last settled, while some are queued.", max(idle, 0.0))


def _validation_metric(connection: Connection, now: datetime) -> Metric:
    """Count active and recent runs of a site whose model is not accepted there."""
    recent = or_(runs.c.state.in_(ACTIVE_STATES), runs.c.finished_at > now - RECENT)
    graded = runs.c.site.is_not(None) & runs.c.model_id.is_not(None)
    query = (
        select(runs.c.site, runs.c.model_id, func.count()).where(graded, recent).group_by(runs.c.site, runs.c.model_id)
    )
    metric = GaugeMetricFamily(
        "fundus_runs_not_validated",
        "Active and recent runs whose model is not accepted at their site.",
        labels=["site", "model_id"],
    )
    for site, model_id, count in connection.execute(query.order_by(runs.c.site, runs.c.model_id)).all():
        if describe_missing_validation(connection, site, model_id) is not None:
            metric.add_metric([site, model_id], count)
    return metric


def _wait_metrics(connection: Connection, now: datetime) -> Iterator[Metric]:
    began = func.coalesce(gradings.c.queued_at, runs.c.created_at)
    waiting = (
        select(func.min(began))
        .select_from(gradings.join(runs, runs.c.run_id == gradings.c.run_id))
        .where(runs.c.queue == Queue.LIVE, runs.c.state.in_(ACTIVE_STATES), gradings.c.status == Status.QUEUED)
    )
    opened = select(func.min(runs.c.created_at)).where(runs.c.state == RunState.OPEN)
    for name, documentation, query in (
        ("fundus_live_wait_seconds", "Time for which the oldest queued live image has waited.", waiting),
        ("fundus_oldest_open_run_seconds", "Age of the oldest run whose enqueue has not ended.", opened),
    ):
        since = connection.scalar(query)
        yield _gauge(name, documentation, 0.0 if since is None else max((now - since).total_seconds(), 0.0))


def _image_metrics(connection: Connection, now: datetime) -> Iterator[Metric]:
    recent = select(runs.c.run_id).where(or_(runs.c.state.in_(ACTIVE_STATES), runs.c.finished_at > now - RECENT))
    of_these = gradings.c.run_id.in_(recent)
    by_status, by_grade, by_attempts = Counter[str](), Counter[int](), Counter[int]()
    columns = (gradings.c.status, gradings.c.grade, gradings.c.attempts)
    counts = select(*columns, func.count()).where(of_these).group_by(*columns)
    for status, grade, attempts, count in connection.execute(counts):
        by_status[status] += count
        by_attempts[min(attempts, MAX_ATTEMPTS_LABEL)] += count
        if grade is not None:
            by_grade[grade] += count
    statuses = GaugeMetricFamily("fundus_images", "Images of active and recent runs.", labels=["status"])
    for status in Status:
        statuses.add_metric([status], by_status[status])
    yield statuses
    grades = GaugeMetricFamily("fundus_graded_images", "Graded images of active and recent runs.", labels=["grade"])
    for grade in Grade:
        grades.add_metric([str(int(grade))], by_grade[grade])
    yield grades
    attempted = GaugeMetricFamily(
        "fundus_attempted_images", "Images of active and recent runs, by number of attempts.", labels=["attempts"]
    )
    for attempts, count in sorted(by_attempts.items()):
        attempted.add_metric([str(attempts)], count)
    yield attempted
    codes = GaugeMetricFamily("fundus_errors", "Images without a grade, by error code.", labels=["status", "code"])
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


def _worker_metrics(connection: Connection) -> Iterator[Metric]:
    expired = select(func.count()).where(
        gradings.c.status == Status.QUEUED, gradings.c.lease_token.is_not(None), gradings.c.due_at < epoch_now()
    )
    yield _gauge("fundus_expired_leases", "Images whose lease has expired.", connection.scalar(expired) or 0)
    held = select(func.count()).where(locks.c.name == RECONCILER_LOCK, locks.c.until > epoch_now())
    active = connection.scalar(held) or 0
    running, died = count_workers(connection)
    yield _gauge("fundus_workers", "Workers that run.", running)
    yield _gauge("fundus_workers_died", "Workers that died within the last hour.", died)
    stranded = GaugeMetricFamily(
        "fundus_stranded_images",
        "Queued images whose model or precision no running worker has, while others run.",
        labels=["model"],
    )
    for missing, images in count_stranded_images(connection).items():
        stranded.add_metric([missing], images)
    yield stranded
    yield _gauge("fundus_reconciler_active", "1 while a reconciler is active in any worker, else 0.", active)


def _publication_metrics(connection: Connection, now: datetime) -> Iterator[Metric]:
    recent = select(runs.c.run_id).where(or_(runs.c.state.in_(ACTIVE_STATES), runs.c.finished_at > now - RECENT))
    counts = count_publications(connection, connection.scalars(recent).all())
    metric = GaugeMetricFamily(
        "fundus_publications", "Objects of the outbox of active and recent runs.", labels=["kind", "state"]
    )
    for kind in PublicationKind:
        for state in PublicationState:
            metric.add_metric([kind, state], counts.get(kind, {}).get(state, 0))
    yield metric
    oldest = connection.scalar(select(func.min(outbox.c.queued_at)).where(outbox.c.state == PublicationState.PENDING))
    age = 0.0 if oldest is None else max((now - oldest).total_seconds(), 0.0)
    yield _gauge("fundus_oldest_publication_seconds", "Time for which the oldest unpublished object has waited.", age)


def _ledger_size(connection: Connection) -> Metric:
    size = {
        "postgresql": "SELECT pg_database_size(current_database())",
        "sqlite": "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    }[connection.dialect.name]
    return _gauge("fundus_ledger_bytes", "Size of the ledger.", float(connection.scalar(text(size)) or 0))


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value=value)
