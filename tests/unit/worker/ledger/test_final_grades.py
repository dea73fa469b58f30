from datetime import UTC, datetime

import pytest

from worker.core.vocabulary import DecisionKind, ReviewState
from worker.ledger.final_grades import ReviewDecision, ReviewResult, format_decisions, resolve_review

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def decisions(*words: str) -> list[ReviewDecision]:
    """Build decisions from words: `anna 2`, `ben -` for ungradable, `cleo 3!` for an arbitration."""
    found = []
    for number, word in enumerate(words, start=1):
        reader, verdict = word.split()
        kind = DecisionKind.ARBITRATION if verdict.endswith("!") else DecisionKind.READING
        grade = None if verdict[0] == "-" else int(verdict[0])
        found.append(ReviewDecision(number, "x", reader, kind, grade, "", "graded", 2, "m", NOON))
    return found


@pytest.mark.parametrize(
    ("words", "readers", "state", "grade", "by"),
    [
        ((), 1, ReviewState.UNREAD, None, ()),
        (("anna 3",), 1, ReviewState.READ, 3, ("anna",)),
        (("anna -",), 1, ReviewState.READ, None, ("anna",)),
        (("anna 3", "ben 1"), 1, ReviewState.READ, 1, ("ben",)),
        (("anna 3", "ben 1", "anna 2"), 1, ReviewState.READ, 2, ("anna",)),
        ((), 2, ReviewState.UNREAD, None, ()),
        (("anna 3",), 2, ReviewState.HALF_READ, None, ()),
        (("anna 3", "anna 2"), 2, ReviewState.HALF_READ, None, ()),
        (("anna 3", "ben 3"), 2, ReviewState.READ, 3, ("anna", "ben")),
        (("anna -", "ben -"), 2, ReviewState.READ, None, ("anna", "ben")),
        (("anna 3", "ben 2"), 2, ReviewState.DISPUTED, None, ()),
        (("anna 3", "ben -"), 2, ReviewState.DISPUTED, None, ()),
        (("anna 1", "anna 3", "ben 3"), 2, ReviewState.READ, 3, ("anna", "ben")),
        (("anna 3", "ben 2", "cleo 4!"), 2, ReviewState.ARBITRATED, 4, ("cleo",)),
        (("anna 3", "ben 2", "cleo 4!", "dora 0!"), 2, ReviewState.ARBITRATED, 0, ("dora",)),
        (("anna 3", "ben 2", "cleo -!"), 1, ReviewState.ARBITRATED, None, ("cleo",)),
    ],
)
def test_review_state_and_grade_follow_from_the_decisions(
    words: tuple[str, ...], readers: int, state: ReviewState, grade: int | None, by: tuple[str, ...]
) -> None:
    decided_at = NOON if by else None
    assert resolve_review(decisions(*words), readers) == ReviewResult(state, grade, by, decided_at)


def test_decisions_are_formatted_in_one_line() -> None:
    line = format_decisions(decisions("anna 3", "ben -", "cleo 2!"))
    assert line == "anna=3; ben=ungradable; cleo=2 (arbitration)"
