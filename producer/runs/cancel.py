"""Cancel a run: settle its unleased images as cancelled and leave the leased ones to their workers."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine, null, update

from worker.core.errors import RunError
from worker.core.vocabulary import AuditAction, RunState, Status
from worker.ledger.audit_log import record_action
from worker.ledger.database import epoch_now, write_transaction
from worker.ledger.paged_updates import update_in_pages
from worker.ledger.runs import find_run
from worker.ledger.schema import gradings, runs


@dataclass(frozen=True, slots=True)
class CancelResult:
    """Result of a cancellation. `cancelled`: number of images that this call settled as cancelled."""

    run: str
    cancelled: int


def cancel(engine: Engine, name: str) -> CancelResult:
    """Cancel an open or running run. Idempotent: calling it again after a crash cancels the remaining images.

    Raises RunError for an unknown or finished run, DatabaseError if the ledger does not answer.
    """
    run = find_run(engine, name)
    with write_transaction(engine) as connection:
        # State first: a cancelled run accepts no new lease and no new image.
        stopped = connection.execute(
            update(runs)
            .where(runs.c.run_id == run.run_id, runs.c.state != RunState.FINISHED)
            .values(state=RunState.CANCELLED)
        )
        if stopped.rowcount:
            record_action(connection, AuditAction.CANCEL, run=run.name)
    if stopped.rowcount == 0:
        raise RunError(f"run {name} is finished: there is nothing to cancel")
    unleased = (gradings.c.status == Status.QUEUED) & (
        gradings.c.lease_token.is_(None) | (gradings.c.due_at < epoch_now())
    )
    values = {"status": Status.CANCELLED, "lease_token": null(), "settled_at": datetime.now(UTC)}
    return CancelResult(run.name, sum(len(page) for page in update_in_pages(engine, run, unleased, values)))
