"""Beat's schedule and the bodies of its tasks. The commands of the same names, for cron, call the same functions."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import structlog
from celery.beat import BeatLazyFunc
from celery.schedules import crontab

from worker.core.errors import OverlapError, SettingsError
from worker.core.local_date import local_date
from worker.core.messages import Duty
from worker.core.messaging.broker import CLOSE_NIGHTS, NIGHTLY, PUBLISH, RETENTION
from worker.core.vocabulary import DUTIES

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from worker.core.settings import Settings

CLOSE_NIGHTS_EVERY_MIN = 10
PUBLISH_EVERY_MIN = 5

log = structlog.get_logger(__name__)


def schedule(settings: Settings) -> dict[str, Any]:
    """Return Celery's `beat_schedule`.

    Nightly and close-nights need a source, retention a maximum age, publish the kinds of FUNDUS_PUBLISH.
    """
    entries: dict[str, Any] = {}
    if settings.nightly_source is not None:
        entries["nightly"] = _entry(NIGHTLY, settings.time_zone, _daily(settings.nightly_at), {})
        often = crontab(minute=f"*/{CLOSE_NIGHTS_EVERY_MIN}")
        # While no worker runs, each message replaces the one before. The other duties never expire.
        entries["close-nights"] = _entry(
            CLOSE_NIGHTS, settings.time_zone, often, {"expires": CLOSE_NIGHTS_EVERY_MIN * 60}
        )
    if settings.publication_kinds:
        often = crontab(minute=f"*/{PUBLISH_EVERY_MIN}")
        entries["publish"] = _entry(PUBLISH, settings.time_zone, often, {"expires": PUBLISH_EVERY_MIN * 60})
    if settings.expects_retention:
        entries["retention"] = _entry(RETENTION, settings.time_zone, _daily(settings.retention_at), {})
    return entries


def read_due_date(task: str, message: dict[str, Any] | None, time_zone: str) -> date:
    """Return the day on which a duty was due, and log if that is over. None, from the beat of version 0.1, means today.

    Raises MessageError.
    """
    today = local_date(time_zone)
    due = today if message is None else Duty.decode(message).date
    if due < today:
        log.warning("duty_late", task=task, due=due.isoformat())
    return due


def enqueue_night(settings: Settings, night: date, on_progress: Callable[[], object]) -> dict[str, Any]:
    """Enqueue the new and changed images of FUNDUS_NIGHTLY_SOURCE into a night; return the counts of the run.

    Raises SettingsError when no source is set, SourceError for an unusable source, ServiceError.
    """
    from producer.runs.nightly import NightRequest, run_night

    if settings.nightly_source is None:
        raise SettingsError("FUNDUS_NIGHTLY_SOURCE is not set")
    request = NightRequest(settings.nightly_source, night)
    done = _unless_elsewhere("nightly", lambda: asdict(run_night(settings, request, on_progress=on_progress)))
    if done.get("missed") or done.get("sealed"):
        log.warning("missed_nights_caught_up", run=done["run"], missed=done["missed"], interrupted=done["sealed"])
    return done


def close_nights(settings: Settings, on_progress: Callable[[], object]) -> dict[str, Any]:
    """Close every night whose run has ended; return the drift verdict by run."""
    from worker.maintenance.close_nights import close_ended_nights

    def close() -> dict[str, Any]:
        return {night.run: night.verdict for night in close_ended_nights(settings, on_progress=on_progress)}

    return _unless_elsewhere("close-nights", close)


def publish(settings: Settings, on_progress: Callable[[], object]) -> dict[str, Any]:
    """Publish the results that are due; return the number of objects by what became of them."""
    from worker.publishing.passes import publish_all

    return _unless_elsewhere("publish", lambda: publish_all(settings, on_progress=on_progress).describe())


def run_retention(settings: Settings, on_progress: Callable[[], object]) -> dict[str, Any]:
    """Delete expired overlays and outcomes; return the counts."""
    from worker.ledger.retention import run_retention

    return _unless_elsewhere("retention", lambda: asdict(run_retention(settings, on_progress=on_progress)))


def _unless_elsewhere(job: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run the job unless another process holds its lock: a broker may deliver a long task twice."""
    try:
        return work()
    except OverlapError as error:
        log.info("running_elsewhere", job=job, detail=error.detail)
        return {"elsewhere": True}


def _entry(task: str, time_zone: str, when: crontab, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "task": task,
        "schedule": when,
        # Evaluated when beat sends the message.
        "kwargs": {"message": BeatLazyFunc(_make_message, time_zone)},
        "options": {"queue": DUTIES} | options,
    }


def _make_message(time_zone: str) -> dict[str, Any]:
    return Duty(date=local_date(time_zone)).encode()


def _daily(at: str) -> crontab:
    hour, minute = at.split(":")
    return crontab(hour=hour, minute=minute)
