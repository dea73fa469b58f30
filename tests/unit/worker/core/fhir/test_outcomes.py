import pytest

from tests.unit.worker.core.fhir.photographs import photograph, study
from worker.core.fhir.outcomes import Absence, PhotographOutcome, Reading, derive_eye_outcomes
from worker.core.vocabulary import Eye, Status

READ = {"reading": Reading.FINAL, "readers": "anna"}


def test_worst_gradable_photograph_of_each_eye_is_shown() -> None:
    right, left = derive_eye_outcomes(
        study(
            photograph("a", 0),
            photograph("b", 2),
            photograph("c", None),
            photograph("d", 1, Eye.LEFT),
            photograph("e", 0, Eye.LEFT),
            photograph("f", 4, Eye.UNKNOWN),
        )
    )

    assert (right.eye, right.grade, right.shown.image_id, right.absence) == (Eye.RIGHT, 2, "b", None)
    assert [one.image_id for one in right.considered] == ["a", "b", "c"]
    assert (left.eye, left.grade, left.shown.image_id) == (Eye.LEFT, 1, "d")


def test_outputs_decide_between_photographs_of_one_grade() -> None:
    less = photograph("b", 2, outputs=(0.9, 0.9, 0.2, 0.1))
    more = photograph("a", 2, outputs=(0.9, 0.9, 0.1, 0.2))

    assert derive_eye_outcomes(study(less, more))[0].shown is more


@pytest.mark.parametrize(
    ("photographs", "absence", "reasons"),
    [
        (
            [photograph("a", None), photograph("b", None, reason="too_dark")],
            Absence.UNGRADABLE,
            ("blurred", "too_dark"),
        ),
        ([photograph("a", None, status=Status.FAILED, reason="image_damaged")], Absence.UNREADABLE, ("image_damaged",)),
        (
            [photograph("a", None, status=Status.FAILED, reason="image_damaged"), photograph("b", None)],
            Absence.UNGRADABLE,
            ("blurred",),
        ),
        ([photograph("a", 1), photograph("b", None, status=Status.QUEUED, reason=None)], Absence.WAITING, ()),
    ],
)
def test_eye_without_a_grade_has_the_reason(
    photographs: list[PhotographOutcome], absence: Absence, reasons: tuple[str, ...]
) -> None:
    (eye,) = derive_eye_outcomes(study(*photographs))

    assert (eye.grade, eye.absence, eye.reasons) == (None, absence, reasons)


def test_referable_grade_is_not_withheld_by_a_queued_photograph() -> None:
    (eye,) = derive_eye_outcomes(study(photograph("a", 2), photograph("b", None, status=Status.QUEUED, reason=None)))

    assert (eye.grade, eye.absence) == (2, None)


@pytest.mark.parametrize("status", [Status.QUEUED, Status.CANCELLED])
def test_eye_without_a_settled_photograph_has_no_outcome(status: Status) -> None:
    assert derive_eye_outcomes(study(photograph("a", None, status=status, reason=None))) == []


@pytest.mark.parametrize(
    ("photographs", "reading"),
    [
        ([photograph("a", 2, **READ), photograph("b", 0)], Reading.PENDING),
        ([photograph("a", 2, **READ), photograph("b", 0, **READ)], Reading.FINAL),
        ([photograph("a", 2, **READ), photograph("b", 0, **READ | {"reading": Reading.AMENDED})], Reading.AMENDED),
        ([photograph("a", 2, **READ), photograph("b", 0, reading=Reading.PENDING)], Reading.PENDING),
        # An ungradable photograph counts only where no other one is gradable.
        ([photograph("a", 2, **READ), photograph("b", None)], Reading.FINAL),
        ([photograph("a", None, **READ), photograph("b", None)], Reading.PENDING),
        ([photograph("a", None, **READ)], Reading.FINAL),
        # A grade that is withheld is not read, either.
        ([photograph("a", 1, **READ), photograph("b", None, status=Status.QUEUED)], Reading.NONE),
    ],
)
def test_eye_is_read_when_each_photograph_that_counts_is(
    photographs: list[PhotographOutcome], reading: Reading
) -> None:
    (eye,) = derive_eye_outcomes(study(*photographs))

    assert eye.reading is reading


def test_readers_grade_can_make_another_photograph_the_worst() -> None:
    lowered = photograph("a", 0, model_grade=3, **READ)

    (eye,) = derive_eye_outcomes(study(lowered, photograph("b", 1, **READ)))

    assert (eye.shown.image_id, eye.grade) == ("b", 1)
