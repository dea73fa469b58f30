"""The clinical words."""

import pytest

from worker.core.clinical_labels import (
    EYE_CODES,
    EYE_LABELS,
    GRADE_LABELS,
    STATUS_LABELS,
    UNGRADABLE_REASONS,
    format_awaiting_reading,
    format_grade,
    format_model_grade,
    format_ungraded,
)
from worker.core.vocabulary import Eye, Grade, Status
from worker.imaging.steps.gradability import GRADABILITY_LIMITS
from worker.report.snapshot import BY_READER


def test_grade_0_of_a_model_is_no_diagnosis_of_health() -> None:
    assert [format_model_grade(grade) for grade in (0, 1, None)] == [
        "0 No referable DR found by the model", "1 Mild NPDR", "ungradable",
    ]  # fmt: skip
    assert format_grade(0) == "0 No DR"
    assert format_awaiting_reading(4) == "Awaiting reading (model: 4 PDR)"


def test_every_grade_eye_status_and_reason_has_words() -> None:
    assert GRADE_LABELS.keys() == set(Grade)
    assert EYE_LABELS.keys() == EYE_CODES.keys() == set(Eye)
    assert STATUS_LABELS.keys() == set(Status)
    assert UNGRADABLE_REASONS.keys() == {limit.code for limit in GRADABILITY_LIMITS} | {"no_field", BY_READER}


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (Status.UNGRADABLE, "not_a_fundus", "Ungradable: unusual appearance, needs a human grader"),
        (Status.UNGRADABLE, "of_another_version", "Ungradable"),
        (Status.FAILED, "too_dark", "Not graded: file or worker failed"),
    ],
)
def test_ungraded_images_have_reason_and_next_step(status: Status, code: str, words: str) -> None:
    assert format_ungraded(status, code) == words
