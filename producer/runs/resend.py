"""Send images of a run again: those that wait, and on request those that failed."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, null, update

from producer.runs.enqueue import send_images
from worker.core.errors import RunError
from worker.core.settings import Settings
from worker.core.vocabulary import Action, RunState, Status
from worker.ledger.audit_log import record_action
from worker.ledger.database import epoch_now, write_transaction
from worker.ledger.paged_updates import update_in_pages
from worker.ledger.runs import Run, find_run
from worker.ledger.schema import OUTPUTS, gradings, runs

if TYPE_CHECKING:
    from celery import Celery

LIFTABLE = (Status.QUARANTINED, Status.FAILED, Status.UNGRADABLE)

_OUTCOME = (
    "grade", *OUTPUTS, "referable", "flags", "saliency", "model_id", "overlay_key", "error_code", "error_detail",
    "settled_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Resent:
    """In images: `waiting` were queued already, `lifted` had an outcome that is now forgotten."""

    run: str
    waiting: int
    lifted: int
    messages: int


def resend(engine: Engine, app: "Celery", settings: Settings, name: str, lift: Collection[Status]) -> Resent:
    """Send what is queued and under no live lease, then put the images of the statuses `lift` back to queued, too.

    Each page is committed before its messages are sent. An image that was in flight when a worker died travels alone;
    one that has no attempt left waits for its quarantine. Raises RunError for an unknown or a cancelled run,
    DatabaseError or BrokerError.
    """
    run = find_run(engine, name)
    if run.state == RunState.CANCELLED:
        raise RunError(f"run {name} is cancelled: enqueue its source into another run")
    with write_transaction(engine) as connection:
        record_action(connection, Action.RESEND, run=run.name, lift=sorted(lift))
    free = (gradings.c.status == Status.QUEUED) & (gradings.c.lease_token.is_(None) | (gradings.c.due_at < epoch_now()))
    again: dict[str, Any] = {"lease_token": null(), "due_at": epoch_now() + settings.resend_after_s}
    suspect = (gradings.c.attempts > 0) & (gradings.c.attempts < settings.max_attempts)
    forgotten = {**again, **dict.fromkeys(_OUTCOME, null()), "status": Status.QUEUED, "attempts": 0}

    company = update_in_pages(engine, run, free & (gradings.c.attempts == 0), again)
    waiting, messages = _send(app, run, company, run.chunk_size)
    alone, more = _send(app, run, update_in_pages(engine, run, free & suspect, again), 1)
    lifted, most = _send(
        app,
        run,
        update_in_pages(engine, run, gradings.c.status.in_(lift), forgotten, on_page=lambda c: _run_again(c, run)),
        run.chunk_size,
    )
    return Resent(run.name, waiting + alone, lifted, messages + more + most)


def _send(app: "Celery", run: Run, pages: Iterable[tuple[str, ...]], chunk_size: int) -> tuple[int, int]:
    images = messages = 0
    for image_ids in pages:
        images += len(image_ids)
        messages += send_images(app, run, image_ids, chunk_size)
    return images, messages


def _run_again(connection: Connection, run: Run) -> None:
    connection.execute(
        update(runs)
        .where(runs.c.run_id == run.run_id, runs.c.state == RunState.FINISHED)
        .values(state=RunState.RUNNING, finished_at=None)
    )
