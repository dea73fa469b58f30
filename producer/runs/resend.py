"""Resend the queued images of a run and, on request, requeue images that have an outcome."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Engine, null, update

from producer.runs.enqueue import send_images
from worker.core.errors import RunError
from worker.core.settings import Settings
from worker.core.vocabulary import AuditAction, RunState, Status
from worker.ledger.audit_log import record_action
from worker.ledger.database import epoch_now, write_transaction
from worker.ledger.paged_updates import update_in_pages
from worker.ledger.runs import Run, find_run
from worker.ledger.schema import OUTPUTS, gradings, runs

if TYPE_CHECKING:
    from celery import Celery

_OUTCOME = (
    "grade", *OUTPUTS, "referable", "flags", "disagreement", "unfamiliarity", "saliency", "evidence",
    "evidence_scale", "model_id", "configuration_id", "overlay_key", "content_sha256", "content_version", "error_code",
    "error_detail", "settled_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ResendResult:
    """Result of a resend.

    waiting: queued images that were sent again. requeued: images whose outcome was deleted and that were queued again.
    messages: messages sent.
    """

    run: str
    waiting: int
    requeued: int
    messages: int


def resend(engine: Engine, app: "Celery", settings: Settings, name: str, requeue: Collection[Status]) -> ResendResult:
    """Resend queued images without a live lease, then requeue and send the images with a status in `requeue`.

    Each page is committed before its messages are sent. An image that was in flight when a worker died is sent in a
    separate message. An image without attempts left is not sent: the reconciler quarantines it. Raises RunError for an
    unknown or cancelled run, DatabaseError or BrokerError.
    """
    run = find_run(engine, name)
    _require_not_cancelled(name, run.state)
    with write_transaction(engine) as connection:
        record_action(connection, AuditAction.RESEND, run=run.name, lift=sorted(requeue))
    unleased = (gradings.c.status == Status.QUEUED) & (
        gradings.c.lease_token.is_(None) | (gradings.c.due_at < epoch_now())
    )
    resent: dict[str, Any] = {"lease_token": null(), "due_at": epoch_now() + settings.resend_after_s}
    suspect = (gradings.c.attempts > 0) & (gradings.c.attempts < settings.max_attempts)
    reset = {**resent, **dict.fromkeys(_OUTCOME, null()), "status": Status.QUEUED, "attempts": 0, "refusals": 0}
    reset["queued_at"] = datetime.now(UTC)

    def pages(condition: ColumnElement[bool], values: dict[str, Any]) -> Iterable[tuple[str, ...]]:
        return update_in_pages(engine, run, condition, values, lambda c, state: _reopen(c, run, state))

    waiting, messages = _send(app, run, pages(unleased & (gradings.c.attempts == 0), resent), run.chunk_size)
    suspects, suspect_messages = _send(app, run, pages(unleased & suspect, resent), 1)
    requeued, requeued_messages = _send(app, run, pages(gradings.c.status.in_(requeue), reset), run.chunk_size)
    return ResendResult(run.name, waiting + suspects, requeued, messages + suspect_messages + requeued_messages)


def _send(app: "Celery", run: Run, pages: Iterable[tuple[str, ...]], chunk_size: int) -> tuple[int, int]:
    images = messages = 0
    for image_ids in pages:
        images += len(image_ids)
        messages += send_images(app, run, image_ids, chunk_size)
    return images, messages


def _reopen(connection: Connection, run: Run, state: RunState) -> None:
    _require_not_cancelled(run.name, state)
    connection.execute(
        update(runs)
        .where(runs.c.run_id == run.run_id, runs.c.state == RunState.FINISHED)
        .values(state=RunState.RUNNING, finished_at=None)
    )


def _require_not_cancelled(name: str, state: RunState) -> None:
    if state == RunState.CANCELLED:
        raise RunError(f"run {name} is cancelled: enqueue its source into another run")
