"""The filter columns hold one character per image."""

import pytest

from tests.unit.worker.report.report_rows import make_snapshot, read, row
from worker.report.columns import is_doubtful, read_filter_columns

THRESHOLDS = (0.5,) * 5
DOUBTFUL = {"flags": "unfamiliar"}


def test_each_image_has_one_character_in_the_order_of_urgency() -> None:
    with make_snapshot(
        row("a", 4, eye="right", reference_grade=3),
        row("b", 0, eye="left", flags="no_evidence"),
        row("c", None, error_code="too_dark"),
        row("d", None),
    ) as rows:
        found = read_filter_columns(rows, THRESHOLDS)
    assert (found.outcome, found.eye, found.reference, found.unsure) == ("40uu", "rluu", "3---", "0100")
    assert [found.codes[int(sign)] for sign in found.code[2:]] == ["too_dark", "blurred"]
    assert found.reading == ""


def test_every_error_code_has_a_character_of_its_own() -> None:
    given = [f"code_{number:03}" for number in range(200)]
    with make_snapshot(*(row(code, None, error_code=code) for code in given)) as rows:
        found = read_filter_columns(rows, THRESHOLDS)
    assert sorted(found.codes) == given
    # As the script of the page reads it: the i-th code is the character `0` + i.
    assert sorted(found.codes[ord(sign) - ord("0")] for sign in found.code) == given


def test_review_state_is_encoded_and_reviewed_images_are_not_low_confidence() -> None:
    with make_snapshot(
        read(row("a", 4, **DOUBTFUL), 4),
        read(row("b", 3, **DOUBTFUL), None, "disputed"),
        read(row("c", 0, **DOUBTFUL), 2, "arbitrated"),
        read(row("d", 1, **DOUBTFUL), None, "half_read"),
        row("e", 0, **DOUBTFUL),
        read(row("f", None), None),
        read(row("g", 2), None),
    ) as rows:
        found = read_filter_columns(rows, THRESHOLDS)
    assert found.outcome == "4R2r0uu"
    assert found.reading == "sdch-cs"
    assert found.unsure == "0101100"
    assert found.codes == ("ungradable_by_reader",)


@pytest.mark.parametrize(
    ("grade", "flags", "score", "doubtful"),
    [
        (0, "", 0.14, True),
        (1, "", 0.14, True),
        (0, "", 0.13, False),
        (2, "", 0.25, False),
        (0, "no_output_passed", 0.01, False),
        (0, "no_output_passed,not_monotone", 0.01, True),
        (3, "unfamiliar", 0.9, True),
    ],
)
def test_almost_referable_grades_and_flags_ask_for_a_review(
    grade: int, flags: str, score: float, *, doubtful: bool
) -> None:
    outputs, thresholds = (1.0, 0.5, score, 0.0, 0.0), (0.5, 0.5, 0.24, 0.24, 0.25)
    assert is_doubtful(grade, flags, outputs, thresholds) is doubtful
