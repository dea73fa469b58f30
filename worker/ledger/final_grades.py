"""The final grade of an image: the readers' once they have decided, none while their review is unfinished, and the
model's when no review has begun. Console, export and report share it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, exists, func, null, select, true

from worker.core.clinical_labels import format_awaiting_reading, format_grade, format_model_grade
from worker.core.vocabulary import REFERABLE_FROM, DecisionKind, Finding, ReviewState, Status
from worker.ledger.review_schema import decisions, reviews, withdrawals
from worker.ledger.schema import gradings

FINAL_COLUMNS = ("review", "final_grade", "decided_by", "decided_at")
"""Columns that `with_final_grades` adds, in order."""
PENDING_STATES = (ReviewState.HALF_READ, ReviewState.DISPUTED)
"""Review states of an image that is being read: it has no final grade."""
DECIDED_STATES = (ReviewState.READ, ReviewState.ARBITRATED)
"""Review states of an image whose final grade is the readers'."""
DISCLOSED_STATES = (ReviewState.DISPUTED, *DECIDED_STATES)
"""Review states whose decisions are shown. Earlier, they would reveal the first reader's decision to the second."""


@dataclass(frozen=True, slots=True)
class ReviewDecision:
    """One reader's decision on one image.

    grade: None means that the reader found the image ungradable. seen_status, seen_grade and seen_model_id: the outcome
    that the reader was shown. seen_sha256: hash of the photograph; None if it was not displayed or not recorded.
    unassisted: whether the reader had not seen the outcome. seconds: time from opening the page to the decision; both
    None if not recorded. withdrawn_at: when the reader took it back; such a decision does not count.
    """

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
    seen_sha256: str | None = None
    findings: tuple[Finding, ...] = ()
    unassisted: bool | None = None
    seconds: float | None = None
    withdrawn_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReviewResult:
    """State of an image's review; grade is None while the review is unfinished, and for an ungradable image."""

    state: ReviewState
    grade: int | None = None
    decided_by: tuple[str, ...] = ()
    decided_at: datetime | None = None


def with_final_grades(query: Select[Any]) -> Select[Any]:
    """Append FINAL_COLUMNS to a query over `gradings`.

    final_grade: the readers' grade once they have decided, NULL while the review is unfinished or when they found the
    image ungradable, the model's grade when no review has begun.
    """
    begun = and_(reviews.c.state.is_not(None), reviews.c.state != ReviewState.UNREAD)
    return query.outerjoin(
        reviews, and_(reviews.c.run_id == gradings.c.run_id, reviews.c.image_id == gradings.c.image_id)
    ).add_columns(
        func.coalesce(reviews.c.state, ReviewState.UNREAD).label("review"),
        case((begun, reviews.c.grade), else_=gradings.c.grade).label("final_grade"),
        case((begun, reviews.c.decided_by), else_=null()).label("decided_by"),
        reviews.c.decided_at,
    )


def read_decisions(
    connection: Connection, run_id: int, run: str, within: ColumnElement[bool], *, withdrawn: bool = False
) -> Mapping[str, Sequence[ReviewDecision]]:
    """Read the decisions on images of a run by image id, oldest first.

    within: condition on the table `decisions` that selects the images. withdrawn: also those that were withdrawn.
    Raises DatabaseError.
    """
    stored = [decisions.c[name] for name in ReviewDecision.__dataclass_fields__ if name in decisions.c]
    rows = connection.execute(
        select(*stored, withdrawals.c.at.label("withdrawn_at"))
        .outerjoin(withdrawals, withdrawals.c.decision_id == decisions.c.decision_id)
        .where(true() if withdrawn else withdrawals.c.decision_id.is_(None))
        .where(decisions.c.run_id == run_id, decisions.c.run == run, within)
        .order_by(decisions.c.decision_id)
    )
    found: dict[str, list[ReviewDecision]] = defaultdict(list)
    for row in rows:
        findings = tuple(Finding(word) for word in (row.findings or "").split(",") if word)
        decision = ReviewDecision(**row._asdict() | {"kind": DecisionKind(row.kind), "findings": findings})
        found[decision.image_id].append(decision)
    return found


def is_standing() -> ColumnElement[bool]:
    """Build the condition for a decision that was not withdrawn."""
    return ~exists().where(withdrawals.c.decision_id == decisions.c.decision_id)


def resolve_review(decided: Iterable[ReviewDecision], readers: int) -> ReviewResult:
    """Derive the review state and final grade of one image from its decisions.

    decided: oldest first. readers: number of readers that the run requires, 1 or 2. Only a reader's latest review
    counts. With one required reader the latest review decides; with two, both must agree. The latest arbitration
    overrides all reviews.
    """
    latest: dict[str, ReviewDecision] = {}
    arbitration: ReviewDecision | None = None
    for decision in decided:
        if decision.kind is DecisionKind.ARBITRATION:
            arbitration = decision
        else:
            # Remove the earlier one first, so that the dict is ordered by the reviews that count.
            latest.pop(decision.reader, None)
            latest[decision.reader] = decision
    if arbitration is not None:
        return ReviewResult(ReviewState.ARBITRATED, arbitration.grade, (arbitration.reader,), arbitration.at)
    if not latest:
        return ReviewResult(ReviewState.UNREAD)
    counted = list(latest.values())
    last = counted[-1]
    if readers == 1:
        return ReviewResult(ReviewState.READ, last.grade, (last.reader,), last.at)
    if len(counted) < readers:
        return ReviewResult(ReviewState.HALF_READ)
    if len({decision.grade for decision in counted}) > 1:
        return ReviewResult(ReviewState.DISPUTED)
    return ReviewResult(ReviewState.READ, last.grade, tuple(decision.reader for decision in counted), last.at)


def describe_outcome(status: Status, review: ReviewState, model_grade: int | None, final_grade: int | None) -> str:
    """Describe the outcome of an image: its final grade, that it awaits reading, or its status."""
    if review in PENDING_STATES:
        return format_awaiting_reading(model_grade)
    if review is ReviewState.UNREAD:
        return status if final_grade is None else format_model_grade(final_grade)
    return format_grade(final_grade)


def is_final_referable(
    review: ReviewState, model_grade: int | None, final_grade: int | None, decided: Iterable[ReviewDecision]
) -> bool | None:
    """Whether an image counts as referable; None if it has no grade.

    While it awaits reading, it counts as referable if the model or a disclosed decision says so, otherwise it has no
    grade.
    """
    if review not in PENDING_STATES:
        return None if final_grade is None else final_grade >= REFERABLE_FROM
    given = [model_grade, *(one.grade for one in decided if review in DISCLOSED_STATES)]
    return True if any(grade is not None and grade >= REFERABLE_FROM for grade in given) else None


def find_findings(review: ReviewState, decided: Sequence[ReviewDecision]) -> tuple[Finding, ...]:
    """Return what the readers report next to the final grade; nothing before they have decided.

    decided: oldest first. The findings of the latest arbitration, otherwise those of any reader's latest review.
    """
    if review not in DECIDED_STATES:
        return ()
    arbitrations = [one for one in decided if one.kind is DecisionKind.ARBITRATION]
    counted = arbitrations[-1:] or {one.reader: one for one in decided}.values()
    given = {finding for one in counted for finding in one.findings}
    return tuple(finding for finding in Finding if finding in given)


def format_decisions(decided: Iterable[ReviewDecision]) -> str:
    """Format the decisions in one line: `anna=2; ben=ungradable; cleo=3 (arbitration)`."""
    return "; ".join(
        f"{decision.reader}={'ungradable' if decision.grade is None else decision.grade}"
        + (" (arbitration)" if decision.kind is DecisionKind.ARBITRATION else "")
        for decision in decided
    )
