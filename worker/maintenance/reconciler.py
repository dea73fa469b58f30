"""Resend lost images, quarantine images that kill workers, finish settled runs and request pending reports.

A finished run that has queued images is reopened. Programs of this version leave none; an earlier version could.

Every worker runs the reconciler, and a lock in the ledger admits one at a time. Rows are updated before their messages
are sent: after a crash in between, the rows become due again.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import exists, or_, select, tuple_, update

from worker.core.messages import GradeChunk
from worker.core.messaging.broker import chunked, queue_depth, send_chunk, send_report
from worker.core.vocabulary import Queue, RunState, Status
from worker.ledger.completion import find_settled_runs, finish_if_settled
from worker.ledger.database import epoch_now, read_transaction, write_transaction
from worker.ledger.locks import LockResult, acquire_lock
from worker.ledger.report_leases import claim_due_reports
from worker.ledger.schema import RECONCILER_LOCK, gradings, runs
from worker.ledger.stranded_runs import StrandedRun, find_stranded_runs

if TYPE_CHECKING:
    from celery import Celery
    from sqlalchemy import ColumnElement, Connection, Engine

    from worker.core.settings import Settings

LOCK_PASSES = 3
"""Number of passes that the lock's holder may miss before another worker can acquire the lock."""
MAX_IMAGES_PER_PASS = 5000
PROBE_EVERY_S = 900.0
"""Interval at which one image of a run is sent although no running worker is known to have its model."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReconcileResult:
    """Result of one pass: numbers of images, and of runs for `reopened`, `finished` and `reports`."""

    quarantined: int = 0
    cancelled: int = 0
    sent_alone: int = 0
    sent_again: int = 0
    finished: int = 0
    reports: int = 0
    reopened: int = 0


def reconcile(engine: Engine, app: Celery, settings: Settings, *, holder: str) -> ReconcileResult | None:
    """Run one pass; return None when another worker holds the lock. Raises DatabaseError or BrokerError.

    holder: unique name of the caller. The first pass of a new holder only acquires the lock: after an outage of the
    ledger all leases may have expired, and live workers need time to renew theirs.
    """
    lock = acquire_lock(engine, RECONCILER_LOCK, holder, LOCK_PASSES * settings.reconcile_every_s)
    if lock is LockResult.HELD_ELSEWHERE:
        return None
    if lock is LockResult.ACQUIRED:
        return ReconcileResult()
    empty = [queue for queue in Queue if queue_depth(app, queue) == 0]
    with write_transaction(engine) as connection:
        reopened = _reopen_finished(connection)
        quarantined = _quarantine(connection, settings.max_attempts)
        cancelled = _cancel_leftovers(connection)
        stranded = find_stranded_runs(connection)
        has_worker = gradings.c.run_id.not_in([run.run_id for run in stranded])
        alone = _claim(connection, has_worker & (gradings.c.attempts > 0), settings.resend_after_s)
        resent = _claim(connection, has_worker & _lost(empty), settings.resend_after_s)
        alone += [image for run in stranded for image in _probe(connection, run, settings.resend_after_s)]
    _send(engine, app, alone, alone=True)
    _send(engine, app, resent, alone=False)
    finished = _finish_settled_runs(engine, report=settings.reports)
    # While the bulk queue has messages, one of them may be for the same report.
    reports = _request_reports(engine, app, settings) if settings.reports and Queue.BULK in empty else 0
    done = ReconcileResult(quarantined, cancelled, len(alone), len(resent), finished, reports, reopened)
    if done != ReconcileResult():
        log.info("reconciled", **{name: getattr(done, name) for name in ReconcileResult.__slots__})
    return done


def _due() -> ColumnElement[bool]:
    return (gradings.c.status == Status.QUEUED) & (gradings.c.due_at < epoch_now())


def _reopen_finished(connection: Connection) -> int:
    """Reopen finished runs with due images, so that they finish again, with a new report, after the images."""
    of_due = select(gradings.c.run_id).where(_due())
    return connection.execute(
        update(runs)
        .where(runs.c.state == RunState.FINISHED, runs.c.run_id.in_(of_due))
        .values(state=RunState.RUNNING, finished_at=None)
    ).rowcount


def _quarantine(connection: Connection, max_attempts: int) -> int:
    return connection.execute(
        update(gradings)
        .where(_due(), gradings.c.lease_token.is_not(None), gradings.c.attempts >= max_attempts)
        .values(
            status=Status.QUARANTINED,
            lease_token=None,
            settled_at=datetime.now(UTC),
            error_code="attempts_exhausted",
            error_detail=f"{max_attempts} workers died while they graded this image, the last ones grading it alone",
        )
    ).rowcount


def _cancel_leftovers(connection: Connection) -> int:
    cancelled = select(runs.c.run_id).where(runs.c.state == RunState.CANCELLED)
    return connection.execute(
        update(gradings)
        .where(_due(), gradings.c.run_id.in_(cancelled))
        .values(status=Status.CANCELLED, lease_token=None, settled_at=datetime.now(UTC))
    ).rowcount


def _lost(empty_queues: list[Queue]) -> ColumnElement[bool]:
    """Build the condition for an image without a message, for which no worker has died.

    Its message is gone if a service failed the image, or if its queue is empty. A queue with messages may hold the one
    for this image; sending another would only make the queue longer.
    """
    drained = select(runs.c.run_id).where(runs.c.queue.in_(empty_queues))
    return (gradings.c.attempts == 0) & or_(gradings.c.error_code.is_not(None), gradings.c.run_id.in_(drained))


def _probe(connection: Connection, run: StrandedRun, resend_after_s: float) -> list[tuple[int, str]]:
    """Claim one image of a stranded run, at most once in PROBE_EVERY_S, and log the model that is missing.

    Every message of such a run would be refused. The probe finds a worker of a version that does not record its model.
    """
    of_run = (gradings.c.run_id == run.run_id) & (gradings.c.status == Status.QUEUED)
    if connection.scalar(select(exists().where(of_run, gradings.c.due_at > epoch_now() - PROBE_EVERY_S))):
        return []
    log.error("model_missing", run=run.name, model=run.missing, model_id=run.model_id)
    return _claim(connection, of_run, resend_after_s, limit=1)


def _claim(
    connection: Connection, condition: ColumnElement[bool], resend_after_s: float, *, limit: int = MAX_IMAGES_PER_PASS
) -> list[tuple[int, str]]:
    """Free the due rows and postpone them; return (run_id, image_id) in the order of each run."""
    key = tuple_(gradings.c.run_id, gradings.c.image_id)
    due = (
        select(gradings.c.run_id, gradings.c.image_id).where(_due(), condition).order_by(gradings.c.due_at).limit(limit)
    )
    claimed = connection.execute(
        update(gradings)
        .where(key.in_(due), _due())
        .values(lease_token=None, due_at=epoch_now() + resend_after_s)
        .returning(gradings.c.run_id, gradings.c.image_id, gradings.c.position)
    ).all()
    return [(row.run_id, row.image_id) for row in sorted(claimed, key=lambda row: (row.run_id, row.position))]


def _send(engine: Engine, app: Celery, claimed: list[tuple[int, str]], *, alone: bool) -> None:
    by_run: dict[int, list[str]] = defaultdict(list)
    for run_id, image_id in claimed:
        by_run[run_id].append(image_id)
    if not by_run:
        return
    with read_transaction(engine) as connection:
        rows = connection.execute(
            select(runs.c.run_id, runs.c.name, runs.c.queue, runs.c.chunk_size).where(runs.c.run_id.in_(by_run))
        ).all()
    for run in rows:
        for image_ids in chunked(by_run[run.run_id], 1 if alone else run.chunk_size):
            chunk = GradeChunk(run_id=run.run_id, image_ids=image_ids)
            send_chunk(app, chunk, queue=Queue(run.queue), run_name=run.name)


def _request_reports(engine: Engine, app: Celery, settings: Settings) -> int:
    with write_transaction(engine) as connection:
        due = claim_due_reports(connection, resend_after_s=settings.resend_after_s, max_attempts=settings.max_attempts)
    for run_id, run_name in due:
        send_report(app, run_id, run_name=run_name)
    return len(due)


def _finish_settled_runs(engine: Engine, *, report: bool) -> int:
    with read_transaction(engine) as connection:
        settled = find_settled_runs(connection)
    finished = 0
    for run_id in settled:
        with write_transaction(engine) as connection:
            finished += finish_if_settled(connection, run_id, report=report)
    return finished
