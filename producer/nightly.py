"""Enqueue what a source holds and no earlier night has had."""

from datetime import date
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Engine

from producer.enqueue import Enqueued, enqueue
from producer.run_lifecycle import RunRequest
from producer.sources.door import Door, make_door
from producer.sources.opening import open_source
from producer.sources.reference import Remark
from worker.contract.settings import Settings
from worker.contract.storage import Storage
from worker.contract.vocabulary import RunKind

if TYPE_CHECKING:
    from celery import Celery

log = structlog.get_logger(__name__)


def enqueue_nightly(
    engine: Engine,
    app: "Celery",
    storage: Storage,
    settings: Settings,
    source: str,
    night: date,
    *,
    door: Door | None = None,
    remark: Remark = lambda sentence: log.info("source_remark", remark=sentence),
) -> Enqueued:
    """Fill the run `nightly-YYYY-MM-DD` with what no other nightly run has, under whatever outcome but cancelled.

    The same night again adds what has come since. Raises what `open_source` and `enqueue` raise.
    """
    opened = open_source(source, storage=storage, door=door or make_door(settings), remark=remark)
    request = RunRequest(name=f"nightly-{night.isoformat()}", source=opened.text, kind=RunKind.NIGHTLY)
    return enqueue(engine, app, settings, request, opened.references, lambda _found, _new: None)
