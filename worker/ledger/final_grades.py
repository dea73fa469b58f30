"""The final grade of an image: the people's where they have decided, nobody's while they have not finished, else the
model's. Console, export and report all take it from here.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, null, select

from worker.core.vocabulary import DecisionKind, Review
from worker.ledger.review_schema import decisions, reviews
from worker.ledger.schema import gradings

FINAL_COLUMNS = ("review", "final_grade", "decided_by", "decided_at")
"""What `with_final_grades` adds, in this order."""


@dataclass(frozen=True, slots=True)
class ReviewDecision:
    """What one person decided on one image; `grade` None: it cannot be graded."""

    decision_id: int
    image_id: str
    reader: str
    kind: DecisionKind
    grade: int | None
    reason: str
    seen_status: str
    seen_grade: int | None
    seen_model_id: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class ReviewResult:
    """Where the reading of one image stands; `grade` is the people's, None as well while they have not finished."""

    state: Review
    grade: int | None = None
    decided_by: tuple[str, ...] = ()
    decided_at: datetime | None = None


def with_final_grades(query: Select[Any]) -> Select[Any]:
    """A query over `gradings` with the columns of FINAL_COLUMNS added at its end.

    `final_grade` is the people's once they have decided, None while they have not finished, the model's where nobody
    has begun.
    """
    begun = and_(reviews.c.state.is_not(None), reviews.c.state != Review.UNREAD)
    return query.outerjoin(
        reviews, and_(reviews.c.run_id == gradings.c.run_id, reviews.c.image_id == gradings.c.image_id)
    ).add_columns(
        func.coalesce(reviews.c.state, Review.UNREAD).label("review"),
        case((begun, reviews.c.grade), else_=gradings.c.grade).label("final_grade"),
        case((begun, reviews.c.decided_by), else_=null()).label("decided_by"),
        reviews.c.decided_at,
    )


def read_decisions(
    connection: Connection, run_id: int, run: str, within: ColumnElement[bool]
) -> Mapping[str, Sequence[ReviewDecision]]:
    """Every decision on the images of a run that meet `within`, a condition on `decisions`: by image, oldest first."""
    rows = connection.execute(
        select(*(decisions.c[name] for name in ReviewDecision.__dataclass_fields__))
        .where(decisions.c.run_id == run_id, decisions.c.run == run, within)
        .order_by(decisions.c.decision_id)
    )
    found: dict[str, list[ReviewDecision]] = defaultdict(list)
    for row in rows:
        decision = ReviewDecision(**row._asdict() | {"kind": DecisionKind(row.kind)})
        found[decision.image_id].append(decision)
    return found


def resolve_review(decided: Iterable[ReviewDecision], readers: int) -> ReviewResult:
    """Where the decisions on one image, oldest first, leave it under a rule of one or two readers.

    A reader's later reading replaces the earlier one. With one reader the latest reading counts; with two, both must
    agree. The latest arbitration ends it either way.
    """
    latest: dict[str, ReviewDecision] = {}
    arbitration: ReviewDecision | None = None
    for decision in decided:
        if decision.kind is DecisionKind.ARBITRATION:
            arbitration = decision
        else:
            # Taken out first, so that the order is that of the readings that count.
            latest.pop(decision.reader, None)
            latest[decision.reader] = decision
    if arbitration is not None:
        return ReviewResult(Review.ARBITRATED, arbitration.grade, (arbitration.reader,), arbitration.at)
    if not latest:
        return ReviewResult(Review.UNREAD)
    readings = list(latest.values())
    last = readings[-1]
    if readers == 1:
        return ReviewResult(Review.READ, last.grade, (last.reader,), last.at)
    if len(readings) < readers:
        return ReviewResult(Review.HALF_READ)
    if len({reading.grade for reading in readings}) > 1:
        return ReviewResult(Review.DISPUTED)
    return ReviewResult(Review.READ, last.grade, tuple(reading.reader for reading in readings), last.at)


def format_decisions(decided: Iterable[ReviewDecision]) -> str:
    """One line for a table: `anna=2; ben=ungradable; cleo=3 (arbitration)`."""
    return "; ".join(
        f"{decision.reader}={'ungradable' if decision.grade is None else decision.grade}"
        + (" (arbitration)" if decision.kind is DecisionKind.ARBITRATION else "")
        for decision in decided
    )
