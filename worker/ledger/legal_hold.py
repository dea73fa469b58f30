"""Legal hold: keep all of a run, however old it is, until the hold is released."""

from dataclasses import dataclass

from sqlalchemy import Engine, func, select, update

from worker.core.vocabulary import Action
from worker.ledger.audit_log import record_action
from worker.ledger.database import write_transaction
from worker.ledger.locks import wait_for_fence
from worker.ledger.runs import find_run
from worker.ledger.schema import gradings, runs

RETENTION_LOCK = "retention"


@dataclass(frozen=True, slots=True)
class HoldResult:
    """`images`: those of the run that are still there. `overlays_gone`: those of them whose overlay is not."""

    run: str
    held: bool
    images: int
    overlays_gone: int


def set_legal_hold(engine: Engine, name: str, *, release: bool = False) -> HoldResult:
    """Set or release the hold; again changes nothing. When it returns, retention deletes no more of a held run.

    Raises RunError for an unknown run, DatabaseError.
    """
    run = find_run(engine, name)
    with write_transaction(engine) as connection:
        wait_for_fence(connection, RETENTION_LOCK)
        changed = connection.execute(
            update(runs).where(runs.c.run_id == run.run_id, runs.c.held == release).values(held=not release)
        )
        if changed.rowcount:
            record_action(connection, Action.RELEASE if release else Action.HOLD, run=run.name)
        counts = select(func.count(), func.count(gradings.c.overlay_retired_at))
        images, gone = connection.execute(counts.where(gradings.c.run_id == run.run_id)).one()
    return HoldResult(run.name, not release, images, gone)
