"""What a report says first."""

import pytest

from tests.unit.worker.report.report_rows import make_snapshot, read, row
from worker.core.vocabulary import Eye, Status
from worker.report.headline import find_heat, format_headline, share_outcomes
from worker.report.summary import Summary, summarise

RIGHT, LEFT = Eye.RIGHT, Eye.LEFT
QUEUED = {"status": Status.QUEUED, "settled_at": None, "error_code": None}


def headline(*rows: dict[str, object]) -> str:
    with make_snapshot(*rows) as snapshot:
        return format_headline(summarise(snapshot), snapshot.count("SELECT count(*) FROM patients"))


def summary(*rows: dict[str, object]) -> Summary:
    with make_snapshot(*rows) as snapshot:
        return summarise(snapshot)


def test_headline_says_who_to_refer_and_whom_to_photograph_again() -> None:
    assert headline(
        row("a", 4, patient="1", eye=RIGHT), row("b", 0, patient="1", eye=LEFT), row("c", 2, patient="2"),
        row("d", 0, patient="3"), row("e", None, patient="4"),
    ) == "2 of 4 patients to refer, 1 urgently; 1 to photograph again or examine"  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], "No images in this run"),
        ([row("a", None, **QUEUED)], "No image of 1 is graded yet"),
        ([row("a", 0)], "None of 1 image to refer"),
        ([row("a", 0), row("b", 3)], "1 of 2 images to refer"),
        ([row("a", 0, patient="1"), row("b", None, patient="2", **QUEUED)],
         "None of 1 patient to refer; 1 image still to be graded"),
        ([read(row("a", 2, patient="1"), None, "disputed")], "1 of 1 patient to refer; 1 to be read"),
    ],
)  # fmt: skip
def test_headline_of_other_runs(rows: list[dict[str, object]], expected: str) -> None:
    assert headline(*rows) == expected


def test_bar_goes_from_the_most_severe_grade_to_images_without_one() -> None:
    shares = share_outcomes(summary(row("a", 0), row("b", 0), row("c", 4), row("d", None)))
    assert [(one.style, one.label, one.filter, one.start, one.width) for one in shares] == [
        ("grade-4", "4 PDR", "4", 0, 250), ("grade-0", "0 No DR", "0", 250, 500),
        ("ungradable", "ungradable", "u", 750, 250),
    ]  # fmt: skip
    assert share_outcomes(summary()) == []


def test_heat_is_the_share_of_the_reference_grade() -> None:
    found = summary(
        *(row(f"{index}", grade, reference_grade=2) for index, grade in enumerate([2, 2, 2, 2, 2, 2, 2, 2, 2, 0]))
    )
    assert [find_heat(found, 2, count) for count in (0, 1, 2, 9, 10)] == [0, 1, 1, 5, 5]
