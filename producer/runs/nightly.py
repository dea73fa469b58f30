"""Enqueue what a source holds that is new, or has changed, since the programme's earlier nights."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Engine, func, select, update

from producer.runs.enqueue import enqueue
from producer.runs.lifecycle import Night, RunRequest, seal_run
from producer.runs.watermark import Watermark, parse_since
from producer.sources.open_source import open_source
from worker.core.errors import FundusError, OverlapError, UsageError
from worker.core.manifests.admission import make_admission_policy
from worker.core.manifests.image_reference import OnWarning
from worker.core.messaging.broker import make_celery
from worker.core.settings import PROGRAMME_PATTERN, Settings
from worker.core.storage.storage import Storage
from worker.core.telemetry.alerts import Alerts
from worker.core.vocabulary import RunKind, RunState
from worker.ledger.database import read_transaction, write_transaction
from worker.ledger.locks import locked
from worker.ledger.migrate import open_ledger
from worker.ledger.runs import run_from_row
from worker.ledger.schema import nights, runs

if TYPE_CHECKING:
    from celery import Celery

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NightRequest:
    """What is asked of a night; `programme`, `since` and `model`, an id, are the settings' own unless given."""

    source: str
    date: date
    programme: str | None = None
    since: str | None = None
    model: str | None = None
    allow_columns: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class NightDone:
    """What a night did. `missed`: days since the programme's last one on which there was none.

    `older`: references left out by `since`. `sealed`: earlier nights that had broken off, and may finish now.
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
) -> NightDone:
    """The whole of `fundus nightly`, for cron and beat alike; an alarm goes out when it fails.

    Raises OverlapError while another process fills a night of the programme, and what `fill_night` raises.
    """
    alerts = Alerts(settings)
    try:
        engine = open_ledger(settings)
        try:
            return fill_night(
                engine, make_celery(settings), settings, request, on_warning=on_warning, on_progress=on_progress
            )
        finally:
            engine.dispose()
    except OverlapError:
        raise
    except FundusError as error:
        # Its sentence may name files; it is on the screen and in the log.
        alerts.send_or_log(
            f"The night of {request.date.isoformat()} was not enqueued",
            f"{error.code}: see what `fundus nightly` says.",
        )
        raise


def fill_night(
    engine: Engine,
    app: "Celery",
    settings: Settings,
    request: NightRequest,
    *,
    on_warning: OnWarning,
    on_progress: Callable[[], object] = lambda: None,
) -> NightDone:
    """Fill the run PROGRAMME-YYYY-MM-DD; the same night again adds what has come since.

    Earlier nights that broke off are sealed, and what they missed is in this one. Raises OverlapError, UsageError, and
    what `open_source` and `enqueue` raise.
    """
    began = datetime.now(UTC)
    night = Night(request.programme or settings.nightly_programme, request.date)
    if not re.fullmatch(PROGRAMME_PATTERN, night.programme):
        raise UsageError(
            f"programme {night.programme[:80]!r} must be 1 to 50 letters, digits, '.', '_' or '-', "
            "a letter or digit first"
        )
    with locked(engine, f"nightly:{night.programme}", lock_s=settings.lease_s) as lock:
        missed, last_watermark = _look_back(engine, night)
        since = request.since or settings.nightly_since
        watermark = Watermark(None if since is None else parse_since(since, last_watermark))
        admission = make_admission_policy(settings, request.allow_columns)
        opened = open_source(request.source, storage=Storage(settings), admission=admission, on_warning=on_warning)
        sealed = _seal_broken_off(engine, night, report=settings.reports)

        def progress(_found: int, _new: int) -> None:
            lock.ensure_held()
            on_progress()

        model = request.model or settings.nightly_model
        wanted = RunRequest(night.run_name, opened.text, kind=RunKind.NIGHTLY, night=night, model_id=model)
        done = enqueue(engine, app, settings, wanted, watermark.over(opened.references), progress)
        if watermark.newest is not None:
            # A time in the future would hide what comes until then.
            _keep_watermark(engine, night, min(watermark.newest, began))
    return NightDone(**asdict(done), older=watermark.older, missed=missed, sealed=sealed)


def _look_back(engine: Engine, night: Night) -> tuple[int, datetime | None]:
    """How many nights the programme has missed before this one, and the newest time that any of its nights has seen."""
    of_programme = nights.c.programme == night.programme
    with read_transaction(engine) as connection:
        last = connection.scalar(select(func.max(nights.c.night)).where(of_programme, nights.c.night < night.date))
        watermark = connection.scalar(select(func.max(nights.c.watermark)).where(of_programme))
    return 0 if last is None else (night.date - last).days - 1, watermark


def _seal_broken_off(engine: Engine, night: Night, *, report: bool) -> tuple[str, ...]:
    open_nights = (
        select(runs)
        .join(nights, nights.c.run_id == runs.c.run_id)
        .where(nights.c.programme == night.programme, nights.c.night < night.date, runs.c.state == RunState.OPEN)
        .order_by(nights.c.night)
    )
    with read_transaction(engine) as connection:
        broken_off = [run_from_row(row) for row in connection.execute(open_nights)]
    for run in broken_off:
        seal_run(engine, run, report=report, broken_off=1)
    return tuple(run.name for run in broken_off)


def _keep_watermark(engine: Engine, night: Night, newest: datetime) -> None:
    with write_transaction(engine) as connection:
        connection.execute(
            update(nights)
            .where(nights.c.programme == night.programme, nights.c.night == night.date)
            .values(watermark=newest)
        )
