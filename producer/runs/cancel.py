"""Cancel a run: what no worker holds is settled as cancelled; what one holds is left to it."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine, null, update

from worker.core.errors import RunError
from worker.core.vocabulary import Action, RunState, Status
from worker.ledger.audit_log import record_action
from worker.ledger.database import epoch_now, write_transaction
from worker.ledger.paged_updates import update_in_pages
from worker.ledger.runs import find_run
from worker.ledger.schema import gradings, runs


@dataclass(frozen=True, slots=True)
class Cancelled:
    """`cancelled`: the images that this call settled."""

    run: str
    cancelled: int


def cancel(engine: Engine, name: str) -> Cancelled:
    """Cancel an open or running run; once more goes on where a crash cut it short.

    Raises RunError for an unknown or a finished run, DatabaseError.
    """
    run = find_run(engine, name)
    with write_transaction(engine) as connection:
        # The state first: from here on no worker leases and no producer adds.
        stopped = connection.execute(
            update(runs)
            .where(runs.c.run_id == run.run_id, runs.c.state != RunState.FINISHED)
            .values(state=RunState.CANCELLED)
        )
        if stopped.rowcount:
            record_action(connection, Action.CANCEL, run=run.name)
    if stopped.rowcount == 0:
        raise RunError(f"run {name} is finished: there is nothing to cancel")
    free = (gradings.c.status == Status.QUEUED) & (gradings.c.lease_token.is_(None) | (gradings.c.due_at < epoch_now()))
    settled = {"status": Status.CANCELLED, "lease_token": null(), "settled_at": datetime.now(UTC)}
    return Cancelled(run.name, sum(len(page) for page in update_in_pages(engine, run, free, settled)))
