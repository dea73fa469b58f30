"""What beat has done at its hours; cron calls the commands of the same names, and they the same functions."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
from celery.schedules import crontab

from worker.core.errors import OverlapError, SettingsError
from worker.core.messaging.broker import CLOSE_NIGHTS, NIGHTLY, RETENTION
from worker.core.vocabulary import Queue

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.core.settings import Settings

MORNING_EVERY_MIN = 10
EXPIRES_S = 3600
"""A message that no worker took for so long is dropped: the next one is on its way, or somebody was called."""

log = structlog.get_logger(__name__)


def schedule(settings: Settings) -> dict[str, Any]:
    """Celery's `beat_schedule`: the night and its morning if a source is set, retention if an age is."""
    entries: dict[str, Any] = {}
    if settings.nightly_source is not None:
        entries["nightly"] = _entry(NIGHTLY, _daily(settings.nightly_at), {})
        often = crontab(minute=f"*/{MORNING_EVERY_MIN}")
        entries["close-nights"] = _entry(CLOSE_NIGHTS, often, {"expires": MORNING_EVERY_MIN * 60})
    if (settings.retain_overlays_days, settings.retain_rows_days) != (None, None):
        entries["retention"] = _entry(RETENTION, _daily(settings.retention_at), {"expires": EXPIRES_S})
    return entries


def enqueue_tonight(settings: Settings, on_progress: Callable[[], object]) -> dict[str, Any]:
    """Enqueue what FUNDUS_NIGHTLY_SOURCE holds that is new or has changed; the counts of the run."""
    from producer.runs.nightly import NightRequest, run_night

    if settings.nightly_source is None:
        raise SettingsError("FUNDUS_NIGHTLY_SOURCE names no source")
    request = NightRequest(settings.nightly_source, datetime.now(UTC).date())
    done = _unless_elsewhere("nightly", lambda: asdict(run_night(settings, request, on_progress=on_progress)))
    if done.get("missed") or done.get("sealed"):
        log.warning("nights_caught_up_with", run=done["run"], missed=done["missed"], broken_off=done["sealed"])
    return done


def close_nights(settings: Settings, on_progress: Callable[[], object]) -> dict[str, Any]:
    """Close what can be closed; the verdict by run."""
    from worker.maintenance.close_nights import run_morning

    return _unless_elsewhere(
        "close-nights", lambda: {night.run: night.verdict for night in run_morning(settings, on_progress=on_progress)}
    )


def let_go(settings: Settings, on_progress: Callable[[], object]) -> dict[str, Any]:
    """Delete what is too old; how much it was."""
    from worker.ledger.retention import run_retention

    return _unless_elsewhere("retention", lambda: asdict(run_retention(settings, on_progress=on_progress)))


def _unless_elsewhere(what: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A broker may deliver a long task twice: the second finds the lock taken, and there is nothing wrong with that."""
    try:
        return work()
    except OverlapError as error:
        log.info("done_elsewhere", duty=what, detail=error.detail)
        return {"elsewhere": True}


def _entry(task: str, when: crontab, options: dict[str, Any]) -> dict[str, Any]:
    return {"task": task, "schedule": when, "options": {"queue": Queue.BULK} | options}


def _daily(at: str) -> crontab:
    hour, minute = at.split(":")
    return crontab(hour=hour, minute=minute)
