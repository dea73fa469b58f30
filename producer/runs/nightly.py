"""Enqueue the images of a source that are new or changed since the programme's earlier nights."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Engine, func, select, update

from producer.runs.enqueue import enqueue
from producer.runs.lifecycle import Night, RunRequest, seal_run
from producer.runs.watermark import Watermark, parse_since
from producer.sources.naming import make_naming_rules
from producer.sources.open_source import open_source
from worker.core.errors import FundusError, OverlapError, UsageError
from worker.core.manifests.admission import make_admission_policy
from worker.core.manifests.image_reference import OnWarning
from worker.core.messaging.broker import make_celery
from worker.core.settings import PROGRAMME_PATTERN, Settings
from worker.core.storage.storage import Storage
from worker.core.telemetry.alerts import Alerts
from worker.core.vocabulary import Precision, RunKind, RunState
from worker.ledger.database import read_transaction, write_transaction
from worker.ledger.locks import locked
from worker.ledger.migrate import open_ledger
from worker.ledger.runs import run_from_row
from worker.ledger.schema import nights, runs
from worker.ledger.site_acceptance import require_accepted_model

if TYPE_CHECKING:
    from celery import Celery

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NightRequest:
    """A night to enqueue. What is None defaults to the settings; `model` is a model id.

    require_accepted: refuse the night unless its model is accepted at the site.
    """

    source: str
    date: date
    programme: str | None = None
    since: str | None = None
    model: str | None = None
    precision: Precision | None = None
    allow_columns: Sequence[str] = ()
    site: str | None = None
    require_accepted: bool | None = None


@dataclass(frozen=True, slots=True)
class NightResult:
    """Result of a nightly enqueue.

    found: references read. new: images added. messages: messages sent. seconds: duration. older: references skipped
    because they are older than `since`. missed: days without a night since the programme's last one. sealed: runs of
    earlier nights whose enqueue had been interrupted; they can finish now.
    """

    run: str
    state: RunState
    found: int
    new: int
    messages: int
    seconds: float
    older: int
    missed: int
    sealed: tuple[str, ...]


def run_night(
    settings: Settings,
    request: NightRequest,
    *,
    on_warning: OnWarning = lambda sentence: log.info("source_warning", warning=sentence),
    on_progress: Callable[[], object] = lambda: None,
) -> NightResult:
    """Open the ledger, enqueue the night and send an alert if that fails.

    Used by `fundus nightly` and by Celery beat. on_progress: called after each batch of references. Raises as
    `enqueue_night` does.
    """
    alerts = Alerts(settings)
    try:
        engine = open_ledger(settings)
        try:
            return enqueue_night(
                engine, make_celery(settings), settings, request, on_warning=on_warning, on_progress=on_progress
            )
        finally:
            engine.dispose()
    except OverlapError:
        raise
    except FundusError as error:
        # The detail may name files, so the alert carries only the code.
        alerts.send_or_log(
            f"The night of {request.date.isoformat()} was not enqueued",
            f"{error.code}: see the output of `fundus nightly`.",
        )
        raise


def enqueue_night(
    engine: Engine,
    app: "Celery",
    settings: Settings,
    request: NightRequest,
    *,
    on_warning: OnWarning,
    on_progress: Callable[[], object] = lambda: None,
) -> NightResult:
    """Enqueue new and changed images into the run `PROGRAMME-YYYY-MM-DD`.

    Repeating a night adds the images that arrived in the meantime. Runs of earlier nights that were interrupted are
    sealed; the images they missed are added to this night. Raises OverlapError if another process enqueues a night of
    the programme, UsageError for an invalid programme or `since`, NotAcceptedError for a model that the site has not
    accepted although it must, and as `open_source` and `enqueue` do.
    """
    started_at = datetime.now(UTC)
    night = Night(request.programme or settings.nightly_programme, request.date)
    if not re.fullmatch(PROGRAMME_PATTERN, night.programme):
        raise UsageError(
            f"programme {night.programme[:80]!r} must be 1 to 50 letters, digits, '.', '_' or '-', "
            "starting with a letter or digit"
        )
    site = request.site or settings.nightly_site
    model_id = request.model or settings.nightly_model
    must_be_accepted = request.require_accepted
    if settings.nightly_require_accepted if must_be_accepted is None else must_be_accepted:
        # Otherwise the model of the first worker would grade the night.
        model_id = require_accepted_model(engine, site, model_id)
    with locked(engine, f"nightly:{night.programme}", lock_s=settings.lease_s) as lock:
        missed, last_watermark = _read_earlier_nights(engine, night)
        since = request.since or settings.nightly_since
        watermark = Watermark(None if since is None else parse_since(since, last_watermark))
        admission = make_admission_policy(settings, request.allow_columns)
        source = open_source(
            request.source,
            storage=Storage(settings),
            admission=admission,
            on_warning=on_warning,
            # The date at which a photograph was taken: it may arrive later, and nights may have been missed.
            studies_since=night.date - timedelta(days=settings.nightly_study_days + missed),
            naming=make_naming_rules(settings),
        )
        sealed = _seal_interrupted(engine, night, report=settings.reports)

        def keep_lock(_found: int, _new: int) -> None:
            lock.ensure_held()
            on_progress()

        run_request = RunRequest(
            night.run_name,
            source.location,
            kind=RunKind.NIGHTLY,
            night=night,
            model_id=model_id,
            precision=request.precision or settings.nightly_precision,
            site=site,
        )
        result = enqueue(
            engine,
            app,
            settings,
            run_request,
            watermark.filter(source.references),
            keep_lock,
            may_be_empty=True,
        )
        if watermark.newest is not None:
            # A modification time in the future would exclude later images with `since last`.
            _save_watermark(engine, night, min(watermark.newest, started_at))
    return NightResult(**asdict(result), older=watermark.older, missed=missed, sealed=sealed)


def _read_earlier_nights(engine: Engine, night: Night) -> tuple[int, datetime | None]:
    """Return the number of nights missed before this one and the programme's latest watermark."""
    of_programme = nights.c.programme == night.programme
    with read_transaction(engine) as connection:
        last = connection.scalar(select(func.max(nights.c.night)).where(of_programme, nights.c.night < night.date))
        watermark = connection.scalar(select(func.max(nights.c.watermark)).where(of_programme))
    return 0 if last is None else (night.date - last).days - 1, watermark


def _seal_interrupted(engine: Engine, night: Night, *, report: bool) -> tuple[str, ...]:
    open_nights = (
        select(runs)
        .join(nights, nights.c.run_id == runs.c.run_id)
        .where(nights.c.programme == night.programme, nights.c.night < night.date, runs.c.state == RunState.OPEN)
        .order_by(nights.c.night)
    )
    with read_transaction(engine) as connection:
        interrupted = [run_from_row(row) for row in connection.execute(open_nights)]
    for run in interrupted:
        seal_run(engine, run, report=report, broken_off=1)
    return tuple(run.name for run in interrupted)


def _save_watermark(engine: Engine, night: Night, newest: datetime) -> None:
    with write_transaction(engine) as connection:
        connection.execute(
            update(nights)
            .where(nights.c.programme == night.programme, nights.c.night == night.date)
            .values(watermark=newest)
        )
