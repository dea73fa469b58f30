"""Legal hold: exempt a run from retention until the hold is released."""

from dataclasses import dataclass

from sqlalchemy import Engine, func, select, update

from worker.core.vocabulary import AuditAction
from worker.ledger.audit_log import record_action
from worker.ledger.database import write_transaction
from worker.ledger.locks import wait_for_fence, wait_for_holder
from worker.ledger.runs import find_run
from worker.ledger.schema import gradings, runs

RETENTION_LOCK = "retention"
DELETION_LOCK = "retention:objects"
"""Held by retention while it deletes the objects of one page, outside of a transaction."""


@dataclass(frozen=True, slots=True)
class HoldResult:
    """State of a run's hold. images: number still in the ledger. overlays_gone: how many of them lost their overlay."""

    run: str
    held: bool
    images: int
    overlays_gone: int


def set_legal_hold(engine: Engine, name: str, *, release: bool = False) -> HoldResult:
    """Set or release the legal hold of a run; idempotent.

    After it has returned, retention deletes nothing more of a held run: it waits for the page whose objects are being
    deleted. Raises RunError for an unknown run, DatabaseError.
    """
    run = find_run(engine, name)
    with write_transaction(engine) as connection:
        wait_for_fence(connection, RETENTION_LOCK)
        changed = connection.execute(
            update(runs).where(runs.c.run_id == run.run_id, runs.c.held == release).values(held=not release)
        )
        if changed.rowcount:
            record_action(connection, AuditAction.RELEASE if release else AuditAction.HOLD, run=run.name)
        counts = select(func.count(), func.count(gradings.c.overlay_retired_at))
        images, overlays_gone = connection.execute(counts.where(gradings.c.run_id == run.run_id)).one()
    wait_for_holder(engine, DELETION_LOCK)
    return HoldResult(run.name, not release, images, overlays_gone)
