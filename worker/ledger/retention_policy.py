"""What is too old to be kept, said in SQL once: for retention, and for its dry run."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Engine, FromClause, exists, false, func, or_, select

from worker.core.settings import Settings
from worker.core.vocabulary import RunState
from worker.ledger.database import read_transaction
from worker.ledger.schema import gradings, runs

OVER = (RunState.FINISHED, RunState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Retired:
    """What one pass let go, or would. `images`: those without any outcome left, with reference and patient id.

    `held`: runs that have something old enough, and are under a hold.
    """

    overlays: int
    rows: int
    images: int
    held: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """What was settled before these moments is too old; None keeps it for ever. No overlay outlives its row."""

    overlays: datetime | None
    rows: datetime | None


@dataclass(frozen=True, slots=True)
class DueRun:
    """A run that has something to let go."""

    run_id: int
    name: str


def cutoffs_at(now: datetime, settings: Settings) -> Cutoffs:
    """By the ages that are set."""
    overlays, rows = settings.retain_overlays_days, settings.retain_rows_days
    ages = [days for days in (overlays, rows) if days is not None]
    return Cutoffs(
        overlays=now - timedelta(days=min(ages)) if ages else None,
        rows=None if rows is None else now - timedelta(days=rows),
    )


def overlay_is_due(cutoffs: Cutoffs) -> ColumnElement[bool]:
    """Of a grading: it has an overlay that is too old."""
    return gradings.c.overlay_key.is_not(None) & _settled_before(gradings, cutoffs.overlays)


def row_is_due(cutoffs: Cutoffs) -> ColumnElement[bool]:
    """Of a grading: it is too old itself."""
    return _settled_before(gradings, cutoffs.rows)


def read_due_runs(engine: Engine, cutoffs: Cutoffs) -> tuple[list[DueRun], tuple[str, ...]]:
    """The runs that are over and have something to let go, then the names of those of them under a hold."""
    something = or_(overlay_is_due(cutoffs), row_is_due(cutoffs), gradings.c.retired_key.is_not(None))
    query = (
        select(runs.c.run_id, runs.c.name, runs.c.held)
        .where(runs.c.state.in_(OVER), exists().where(gradings.c.run_id == runs.c.run_id, something))
        .order_by(runs.c.run_id)
    )
    with read_transaction(engine) as connection:
        found = connection.execute(query).all()
    due = [DueRun(run.run_id, run.name) for run in found if not run.held]
    return due, tuple(run.name for run in found if run.held)


def plan_retention(engine: Engine, cutoffs: Cutoffs) -> Retired:
    """Count, and change nothing."""
    due, held = read_due_runs(engine, cutoffs)
    run_ids = [run.run_id for run in due]
    of_due = gradings.c.run_id.in_(run_ids)
    other = gradings.alias("other")
    goes, stays = row_is_due(cutoffs), ~(other.c.run_id.in_(run_ids) & _settled_before(other, cutoffs.rows))
    kept = exists().where(other.c.image_id == gradings.c.image_id, stays)
    counts = (
        select(func.count()).where(of_due, or_(overlay_is_due(cutoffs), gradings.c.retired_key.is_not(None))),
        select(func.count()).select_from(gradings).where(of_due, goes),
        select(func.count(gradings.c.image_id.distinct())).where(of_due, goes, ~kept),
    )
    with read_transaction(engine) as connection:
        overlays, rows, alone = (connection.scalar(query) or 0 for query in counts)
    return Retired(overlays, rows, alone, held)


def _settled_before(table: FromClause, cutoff: datetime | None) -> ColumnElement[bool]:
    if cutoff is None:
        return false()
    # A queued row has no time, and a comparison with none is neither true nor false.
    return table.c.settled_at.is_not(None) & (table.c.settled_at < cutoff)
