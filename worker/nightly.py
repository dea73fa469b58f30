"""What beat does at night."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from worker.contract.database import connect
from worker.contract.errors import SettingsError
from worker.contract.storage import Storage

if TYPE_CHECKING:
    from celery import Celery

    from worker.contract.settings import Settings


def enqueue_tonight(settings: Settings, app: Celery) -> dict[str, Any]:
    """Enqueue what FUNDUS_NIGHTLY_SOURCE holds and no earlier night has had; the counts of the run."""
    from producer.nightly import enqueue_nightly

    if settings.nightly_source is None:
        raise SettingsError("FUNDUS_NIGHTLY_SOURCE names no source")
    database = connect(settings)
    try:
        return asdict(
            enqueue_nightly(
                database, app, Storage(settings), settings, settings.nightly_source, datetime.now(UTC).date()
            )
        )
    finally:
        database.dispose()
