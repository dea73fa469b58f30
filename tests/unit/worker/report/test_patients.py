import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.worker.report.report_rows import make_snapshot, read, row
from worker.core.errors import UsageError
from worker.core.vocabulary import Eye, Status
from worker.report.patients import ATTENTION, AWAITING_REVIEW, NEXT_STEPS, Patient, read_next_steps, read_patients

RIGHT, LEFT = Eye.RIGHT, Eye.LEFT


def find_patients(*rows: dict[str, Any]) -> list[Patient]:
    with make_snapshot(*rows) as snapshot:
        return list(read_patients(snapshot, 1, 100))


def test_grade_is_that_of_the_worst_photograph_and_of_the_worse_eye() -> None:
    (patient,) = find_patients(
        row("a", 0, patient="p", eye=RIGHT),
        row("b", 2, patient="p", eye=RIGHT),
        row("c", 1, patient="p", eye=LEFT),
    )
    assert [(eye.eye, eye.grade, eye.file, eye.rank, eye.photographs) for eye in patient.eyes] == [
        (RIGHT, 2, "b.jpg", 1, 2),
        (LEFT, 1, "c.jpg", 2, 1),
    ]
    assert (patient.grade, patient.needs_attention, patient.outcomes) == (2, False, ("2",))


def test_ungradable_photograph_does_not_hide_a_gradable_one_of_the_eye() -> None:
    (patient,) = find_patients(row("a", None, patient="p", eye=RIGHT), row("b", 0, patient="p", eye=RIGHT))
    assert (patient.grade, patient.needs_attention, patient.eyes[0].file) == (0, False, "b.jpg")


@pytest.mark.parametrize("status", [Status.UNGRADABLE, Status.FAILED, Status.QUARANTINED])
def test_eye_without_a_gradable_photograph_needs_attention_whatever_the_other_eye_shows(status: Status) -> None:
    (patient,) = find_patients(
        row("a", None, patient="p", eye=RIGHT, status=status), row("b", 0, patient="p", eye=LEFT)
    )
    assert (patient.grade, patient.needs_attention, patient.outcomes) == (None, True, (ATTENTION,))
    assert [eye.grade for eye in patient.eyes] == [None, 0]


def test_referable_eye_decides_although_the_other_one_is_ungraded() -> None:
    (patient,) = find_patients(row("a", None, patient="p", eye=RIGHT), row("b", 3, patient="p", eye=LEFT))
    assert (patient.grade, patient.needs_attention, patient.outcomes) == (3, True, ("3", ATTENTION))


def test_most_urgent_patient_is_first() -> None:
    patients = find_patients(
        row("healthy", 0, patient="1"),
        row("unseen", None, patient="2"),
        row("moderate", 2, patient="3"),
        row("severe", 3, patient="4", worst=0.2),
        row("nearly-4", 3, patient="5", worst=0.45),
        row("mild", 1, patient="6"),
        row("mild and unseen", 1, patient="7", eye=RIGHT),
        row("unseen too", None, patient="7", eye=LEFT),
    )
    assert [patient.patient_id for patient in patients] == ["5", "4", "3", "7", "2", "6", "1"]


def test_decision_of_a_reader_overrides_the_model() -> None:
    patients = find_patients(
        read(row("overcalled", 4, patient="1"), 0),
        read(row("missed", 0, patient="2"), 3),
        read(row("seen after all", None, patient="3"), 2),
        read(row("too blurred", 2, patient="4"), None),
    )
    assert [(patient.patient_id, patient.grade, patient.outcomes) for patient in patients] == [
        ("2", 3, ("3",)),
        ("3", 2, ("2",)),
        ("4", None, (ATTENTION,)),
        ("1", 0, ("0",)),
    ]
    assert patients[2].eyes[0].label == "Ungradable: by a reader, photograph again or examine the patient"
    assert not any(patient.by_model for patient in patients)


@pytest.mark.parametrize("review", ["half_read", "disputed"])
@pytest.mark.parametrize("same_eye", [False, True])
def test_good_image_does_not_decide_while_another_one_is_under_review(review: str, *, same_eye: bool) -> None:
    (patient,) = find_patients(
        read(row("a", 2, patient="p", eye=RIGHT, worst_decision=2), None, review),
        row("b", 0, patient="p", eye=RIGHT if same_eye else LEFT),
    )
    assert (patient.grade, patient.outcomes) == (None, (AWAITING_REVIEW,))
    assert patient.pending == "Awaiting reading (model: 2 Moderate NPDR)"
    assert (patient.eyes[0].grade, patient.eyes[0].file) == (None, "a.jpg")
    assert patient.eyes[0].pending == patient.pending
    assert NEXT_STEPS[AWAITING_REVIEW] == "Do not discharge: reading not finished."


def test_patient_under_review_shows_the_worst_model_grade_of_both_eyes() -> None:
    (patient,) = find_patients(
        read(row("a", 0, patient="p", eye=RIGHT), None, "half_read"),
        read(row("b", 3, patient="p", eye=LEFT), None, "disputed"),
    )
    assert patient.pending == "Awaiting reading (model: 3 Severe NPDR)"


def test_image_that_the_model_could_not_grade_is_awaiting_reading() -> None:
    (patient,) = find_patients(
        read(row("a", None, patient="p", eye=RIGHT), None, "half_read"), row("b", 0, patient="p", eye=LEFT)
    )
    assert (patient.grade, patient.needs_attention) == (None, False)
    assert patient.pending == "Awaiting reading (model: ungradable)"


@pytest.mark.parametrize("same_eye", [False, True])
def test_good_image_does_not_decide_while_another_one_is_queued(*, same_eye: bool) -> None:
    (patient,) = find_patients(
        row("a", None, patient="p", eye=RIGHT, status=Status.QUEUED),
        row("b", 0, patient="p", eye=RIGHT if same_eye else LEFT),
    )
    assert (patient.grade, patient.outcomes, patient.pending) == (None, (AWAITING_REVIEW,), "Awaiting grading")


def test_cancelled_eye_is_ungraded() -> None:
    (patient,) = find_patients(
        row("a", None, patient="p", eye=RIGHT, status=Status.CANCELLED), row("b", 0, patient="p", eye=LEFT)
    )
    assert (patient.grade, patient.outcomes, patient.pending) == (None, (ATTENTION,), None)


@pytest.mark.parametrize("review", ["half_read", "disputed"])
def test_image_under_review_has_no_grade_and_keeps_the_rank_of_the_model_grade(review: str) -> None:
    patients = find_patients(
        row("unseen", None, patient="1"),
        read(row("severe", 3, patient="2"), None, review),
        row("moderate", 2, patient="3"),
        read(row("mild", 1, patient="4"), None, review),
        row("healthy", 0, patient="5"),
    )
    assert [(patient.patient_id, patient.grade, patient.outcomes) for patient in patients] == [
        ("2", None, (AWAITING_REVIEW,)),
        ("3", 2, ("2",)),
        ("4", None, (AWAITING_REVIEW,)),
        ("1", None, (ATTENTION,)),
        ("5", 0, ("0",)),
    ]
    assert [patient.eyes[0].label for patient in (patients[0], patients[3])] == [
        "Awaiting reading", "Ungradable: blurred, photograph again or check for media opacity",
    ]  # fmt: skip
    assert patients[4].by_model


def test_disputed_image_ranks_by_the_worse_decision() -> None:
    patients = find_patients(
        row("moderate", 2, patient="1"),
        read(row("disputed", 0, patient="2", worst_decision=3), None, "disputed"),
        read(row("unseen", None, patient="3", worst_decision=4), None, "disputed"),
    )
    assert [patient.patient_id for patient in patients] == ["3", "2", "1"]


def test_image_under_review_does_not_hide_a_referable_grade_of_the_eye() -> None:
    (patient,) = find_patients(
        read(row("a", 4, patient="p", eye=RIGHT), None, "disputed"),
        row("b", 2, patient="p", eye=RIGHT),
        row("c", 0, patient="p", eye=LEFT),
    )
    awaiting = "Awaiting reading (model: 4 PDR)"
    assert [(eye.grade, eye.file, eye.pending) for eye in patient.eyes] == [(2, "b.jpg", awaiting), (0, "c.jpg", None)]
    assert patient.pending == awaiting
    assert (patient.grade, patient.outcomes) == (2, ("2", AWAITING_REVIEW))


def test_image_without_patient_id_counts_as_a_patient() -> None:
    patients = find_patients(row("a", 2), row("b", 2), row("c", 1, patient="a"), row("d", 0, patient=""))
    found = [(patient.patient_id, len(patient.eyes)) for patient in patients]
    assert found == [(None, 1), (None, 1), ("a", 1), (None, 1)]


def test_patient_without_a_settled_image_is_left_out() -> None:
    assert find_patients(row("a", None, status=Status.QUEUED), row("b", None, status=Status.CANCELLED)) == []


def test_next_steps_of_the_programme_replace_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "steps.json"
    file.write_text(json.dumps({"2": "Clinic within 6 weeks."}))
    steps = read_next_steps(file)
    assert steps == {**NEXT_STEPS, "2": "Clinic within 6 weeks."}
    assert read_next_steps(None) == NEXT_STEPS


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("[", "cannot read"),
        ('{"2": 3}', "cannot read"),
        ('["2"]', "cannot read"),
        ('{"5": "x"}', "unknown keys 5; use 0, 1"),
    ],
)
def test_file_with_other_content_is_refused(content: str, error: str, tmp_path: Path) -> None:
    file = tmp_path / "steps.json"
    file.write_text(content)
    with pytest.raises(UsageError, match=error):
        read_next_steps(file)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read_next_steps(tmp_path / "none.json")
