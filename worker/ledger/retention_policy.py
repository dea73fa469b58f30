"""Find and count expired overlays and rows: the SQL conditions that retention and its dry run share."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Engine, FromClause, exists, false, func, or_, select

from worker.core.settings import Settings
from worker.ledger.database import read_transaction
from worker.ledger.photograph_views import is_view_expired
from worker.ledger.reasons import is_reason_expired
from worker.ledger.review_schema import decisions, photograph_views
from worker.ledger.runs import ENDED_STATES
from worker.ledger.schema import gradings, runs


@dataclass(frozen=True, slots=True)
class PruneResult:
    """Numbers of overlays, outcome rows and images that a pass deleted, or that a dry run would delete.

    images: those without any outcome left, deleted with their reference and patient id. held: names of the runs that
    have something expired and are under a legal hold. orphans: objects of ended runs that no row knew. reasons: reasons
    of readers that were emptied. views: records of who viewed a photograph.
    """

    overlays: int
    rows: int
    images: int
    held: tuple[str, ...]
    orphans: int = 0
    reasons: int = 0
    views: int = 0


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """Anything settled or decided before these times is expired; None never expires.

    Overlays and reasons expire no later than rows: without its row, a reason is found by no patient id.
    """

    overlays: datetime | None
    rows: datetime | None
    reasons: datetime | None = None
    views: datetime | None = None


@dataclass(frozen=True, slots=True)
class ExpiredRun:
    """An ended run with expired overlays or rows."""

    run_id: int
    name: str


def cutoffs_at(now: datetime, settings: Settings) -> Cutoffs:
    """Compute the cutoffs from the maximum ages in the settings."""
    rows = settings.retain_rows_days

    def at_most(days: int | None) -> datetime | None:
        ages = [age for age in (days, rows) if age is not None]
        return now - timedelta(days=min(ages)) if ages else None

    views = settings.retain_views_days
    return Cutoffs(
        overlays=at_most(settings.retain_overlays_days),
        rows=at_most(rows),
        reasons=at_most(settings.retain_reasons_days),
        views=None if views is None else now - timedelta(days=views),
    )


def is_overlay_expired(cutoffs: Cutoffs) -> ColumnElement[bool]:
    """Build the condition for a grading whose overlay is expired."""
    return gradings.c.overlay_key.is_not(None) & _settled_before(gradings, cutoffs.overlays)


def is_row_expired(cutoffs: Cutoffs) -> ColumnElement[bool]:
    """Build the condition for a grading that is expired."""
    return _settled_before(gradings, cutoffs.rows)


def find_expired_runs(engine: Engine, cutoffs: Cutoffs) -> tuple[list[ExpiredRun], tuple[str, ...]]:
    """Find the ended runs with something expired: those to prune, then the names of those under a legal hold."""
    expired = or_(is_overlay_expired(cutoffs), is_row_expired(cutoffs), gradings.c.retired_key.is_not(None))
    ended = select(runs.c.run_id, runs.c.name, runs.c.held).where(runs.c.state.in_(ENDED_STATES))
    with read_transaction(engine) as connection:
        candidates = connection.execute(ended.order_by(runs.c.run_id)).all()
    found = []
    for run in candidates:
        # One query for each run: together they take longer than the database waits for a statement.
        with read_transaction(engine) as connection:
            if connection.scalar(select(exists().where(gradings.c.run_id == run.run_id, expired))):
                found.append(run)
    to_prune = [ExpiredRun(run.run_id, run.name) for run in found if not run.held]
    return to_prune, tuple(run.name for run in found if run.held)


def count_expired(engine: Engine, cutoffs: Cutoffs) -> PruneResult:
    """Count what a retention pass would delete. Raises DatabaseError."""
    expired, held = find_expired_runs(engine, cutoffs)
    run_ids = [run.run_id for run in expired]
    of_expired = gradings.c.run_id.in_(run_ids)
    other = gradings.alias("other")
    deleted, stays = is_row_expired(cutoffs), ~(other.c.run_id.in_(run_ids) & _settled_before(other, cutoffs.rows))
    kept = exists().where(other.c.image_id == gradings.c.image_id, stays)
    counts = (
        select(func.count()).where(of_expired, or_(is_overlay_expired(cutoffs), gradings.c.retired_key.is_not(None))),
        select(func.count()).select_from(gradings).where(of_expired, deleted),
        select(func.count(gradings.c.image_id.distinct())).where(of_expired, deleted, ~kept),
    )
    expired_reason = false() if cutoffs.reasons is None else is_reason_expired(cutoffs.reasons)
    expired_view = false() if cutoffs.views is None else is_view_expired(cutoffs.views)
    reasons = select(func.count()).select_from(decisions).where(expired_reason)
    views = select(func.count()).select_from(photograph_views).where(expired_view)
    with read_transaction(engine) as connection:
        overlays, rows, orphans, of_readers, viewed = (
            connection.scalar(query) or 0 for query in (*counts, reasons, views)
        )
    return PruneResult(overlays, rows, orphans, held, reasons=of_readers, views=viewed)


def _settled_before(table: FromClause, cutoff: datetime | None) -> ColumnElement[bool]:
    if cutoff is None:
        return false()
    # A queued row has no time, and a comparison with NULL is neither true nor false.
    return table.c.settled_at.is_not(None) & (table.c.settled_at < cutoff)
