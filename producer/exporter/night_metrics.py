"""Tell Prometheus how nights have gone: when the last began, which of them wait for their morning, what drifted."""

from collections.abc import Iterator
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Connection, func, select

from worker.core.vocabulary import RunKind, RunState
from worker.ledger.schema import nights, runs

NOT_COMPARED = "none"
VERDICTS = ("stable", "watch", "drift", NOT_COMPARED)
"""On a night's drift, as `worker.evaluation.drift.psi` gives them, which a producer's machine cannot load."""
OVER = (RunState.FINISHED, RunState.CANCELLED)


def tell_nights(connection: Connection, since: datetime) -> Iterator[Metric]:
    """Gauges of nights; verdicts are of those that were closed after `since`."""
    latest = connection.scalar(select(func.max(runs.c.created_at)).where(runs.c.kind == RunKind.NIGHTLY))
    yield GaugeMetricFamily(
        "fundus_last_night_timestamp_seconds",
        "When the last nightly run was enqueued; 0: never.",
        value=latest.timestamp() if latest is not None else 0.0,
    )

    over = nights.join(runs, (runs.c.run_id == nights.c.run_id) & runs.c.state.in_(OVER))
    left = select(
        func.count().filter(nights.c.closed_at.is_(None)),
        func.count().filter(nights.c.closed_at.is_not(None), nights.c.told_at.is_(None)),
    ).select_from(over)
    waiting = GaugeMetricFamily("fundus_nights_waiting", "Nights that are over, by what is left.", labels=["step"])
    for step, count in zip(("close", "alert"), connection.execute(left).one(), strict=True):
        waiting.add_metric([step], count)
    yield waiting

    verdict = func.coalesce(nights.c.verdict, NOT_COMPARED).label("verdict")
    counts = select(verdict, func.count().label("nights")).where(nights.c.closed_at > since).group_by(verdict)
    found = {row.verdict: row.nights for row in connection.execute(counts)}
    closed = GaugeMetricFamily("fundus_closed_nights", "Nights closed within a day, by drift.", labels=["verdict"])
    for word in VERDICTS:
        closed.add_metric([word], found.get(word, 0))
    yield closed
