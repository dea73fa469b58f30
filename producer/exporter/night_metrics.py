"""Metrics of nights: when the last one began, how many wait to be closed, and how many drifted."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from statistics import median

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Connection, func, select

from worker.core.vocabulary import RunKind
from worker.ledger.runs import ENDED_STATES
from worker.ledger.schema import nights, runs

PROGRAMME_NIGHTS = 8
"""Latest nights of a programme whose intervals count."""
PROGRAMME_HISTORY = timedelta(days=90)
PROGRAMME_ENDED = timedelta(days=7)
"""A programme whose last night is older, and older than three intervals, has ended."""
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

    yield from _programme_metrics(connection)

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


def _programme_metrics(connection: Connection) -> Iterator[Metric]:
    """Yield last night and interval of each programme with at least two nights, until it has long ended.

    The interval is the median of the latest ones, so that neither a missed night nor one more changes it.
    """
    last = GaugeMetricFamily(
        "fundus_programme_last_night_timestamp_seconds", "Time of a programme's last night.", labels=["programme"]
    )
    interval = GaugeMetricFamily(
        "fundus_programme_interval_seconds", "Usual time between a programme's nights.", labels=["programme"]
    )
    now = datetime.now(UTC)
    for programme, found in _read_programmes(connection, now).items():
        dates = sorted(night for night, _ in found)[-PROGRAMME_NIGHTS:]
        if len(dates) < 2:
            continue
        usual = timedelta(days=median((after - before).days for before, after in pairwise(dates)))
        latest = max(created_at for _, created_at in found)
        if now - latest > max(PROGRAMME_ENDED, 3 * usual):
            continue
        last.add_metric([programme], latest.timestamp())
        interval.add_metric([programme], usual.total_seconds())
    yield from (last, interval)


def _read_programmes(connection: Connection, now: datetime) -> dict[str, list[tuple[date, datetime]]]:
    """Return the recent nights of each programme, with the time of their enqueue."""
    query = (
        select(nights.c.programme, nights.c.night, runs.c.created_at)
        .join(runs, runs.c.run_id == nights.c.run_id)
        .where(nights.c.night > (now - PROGRAMME_HISTORY).date())
    )
    found = defaultdict[str, list[tuple[date, datetime]]](list)
    for programme, night, created_at in connection.execute(query):
        found[programme].append((night, created_at))
    return found
