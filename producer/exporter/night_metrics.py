"""Metrics of nights: when the last one began, how many wait to be closed, and how many drifted."""

from collections.abc import Iterator
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Connection, func, select

from worker.core.vocabulary import RunKind
from worker.ledger.runs import ENDED_STATES
from worker.ledger.schema import nights, runs

NOT_COMPARED = "none"
DRIFT_LEVELS = ("stable", "watch", "drift", NOT_COMPARED)
"""Drift levels of `worker.evaluation.drift.psi`, which cannot be imported without the extra `evaluate`."""


def read_night_metrics(connection: Connection, since: datetime) -> Iterator[Metric]:
    """Yield the metrics of nights. Drift is counted for the nights closed after `since`."""
    latest = connection.scalar(select(func.max(runs.c.created_at)).where(runs.c.kind == RunKind.NIGHTLY))
    yield GaugeMetricFamily(
        "fundus_last_night_timestamp_seconds",
        "Time of the last nightly enqueue; 0 if there was none.",
        value=latest.timestamp() if latest is not None else 0.0,
    )

    over = nights.join(runs, (runs.c.run_id == nights.c.run_id) & runs.c.state.in_(ENDED_STATES))
    left = select(
        func.count().filter(nights.c.closed_at.is_(None)),
        func.count().filter(nights.c.closed_at.is_not(None), nights.c.told_at.is_(None)),
    ).select_from(over)
    waiting = GaugeMetricFamily(
        "fundus_nights_waiting", "Nights that are over and wait for a step: close or alert.", labels=["step"]
    )
    for step, count in zip(("close", "alert"), connection.execute(left).one(), strict=True):
        waiting.add_metric([step], count)
    yield waiting

    verdict = func.coalesce(nights.c.verdict, NOT_COMPARED).label("verdict")
    counts = select(verdict, func.count().label("nights")).where(nights.c.closed_at > since).group_by(verdict)
    found = {row.verdict: row.nights for row in connection.execute(counts)}
    closed = GaugeMetricFamily(
        "fundus_closed_nights", "Nights closed in the last 24 hours, by drift verdict.", labels=["verdict"]
    )
    for level in DRIFT_LEVELS:
        closed.add_metric([level], found.get(level, 0))
    yield closed
