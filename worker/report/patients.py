"""Outcome of each eye and each patient of a run, and the next step.

The grade of an eye is that of its worst gradable image; the grade of a patient is that of the worse eye. An eye without
a gradable image needs attention, whatever the other eye shows. Grades are final grades: an image under review has none
until its readers have finished. An eye with an unfinished image and a patient with an unfinished or ungraded eye have a
grade only if it is referable: a good image never stands for one that is not decided.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from worker.core.clinical_labels import format_awaiting_reading
from worker.core.errors import UsageError
from worker.core.vocabulary import Eye, ReviewState
from worker.report.rows import describe_ungraded
from worker.report.snapshot import Snapshot

ATTENTION = "attention"
AWAITING_REVIEW = "reading"
AWAITING_GRADING = "Awaiting grading"
NEXT_STEPS = {
    "0": "Rescreen at the routine interval.",
    "1": "Rescreen at the routine interval.",
    "2": "Refer to an ophthalmologist.",
    "3": "Refer to an ophthalmologist promptly.",
    "4": "Refer to an ophthalmologist urgently.",
    ATTENTION: "Rephotograph the ungraded eye, or examine it clinically.",
    AWAITING_REVIEW: "Do not discharge: reading not finished.",
}
"""Next steps by outcome. They name no interval, because each programme sets its own."""

_STEPS = TypeAdapter(dict[str, str], config=ConfigDict(strict=True))


@dataclass(frozen=True, slots=True)
class EyeOutcome:
    """Outcome of one eye. `rank`, `file`, `label` and `by_model` refer to its worst image.

    label: the outcome in words if the eye has no grade. by_model: whether no reader has graded the image.
    grade: None if no image has one, or if only images that are not referable have one while another is not decided.
    photographs: number of settled images of the eye. pending: what the eye is waiting for, None if it is decided.
    """

    eye: Eye
    grade: int | None
    label: str
    by_model: bool
    rank: int
    file: str
    photographs: int
    pending: str | None


@dataclass(frozen=True, slots=True)
class Patient:
    """Outcome of one patient. `patient_id` is None for an image without one, which counts as a patient.

    grade: None while an eye is not decided or has no gradable image, unless the grade is referable. pending: what the
    patient is waiting for, None if every eye is decided.
    """

    patient_id: str | None
    eyes: tuple[EyeOutcome, ...]
    grade: int | None
    needs_attention: bool
    pending: str | None

    @property
    def by_model(self) -> bool:
        """Whether no reader has graded an eye of which the patient's grade is."""
        return any(eye.by_model for eye in self.eyes if eye.grade == self.grade)

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Keys of the next steps."""
        grade = () if self.grade is None else (str(self.grade),)
        return (
            *grade,
            *((ATTENTION,) if self.needs_attention else ()),
            *((AWAITING_REVIEW,) if self.pending else ()),
        )


def read_patients(snapshot: Snapshot, first: int, last: int) -> Iterator[Patient]:
    """Yield the patients with these numbers, both included: referable first, then needing attention, then the rest.

    A patient with referable images under review counts as referable. A patient without a settled image is left out.
    """
    found = snapshot.query(
        "SELECT number, patients.grade, attention, patients.under_review, patients.queued, patients.awaited,"
        " patient_id, eyes.eye, images.grade, status, error_code, review, rank, uri, photographs,"
        " eyes.under_review, eyes.queued, eyes.awaited FROM patients"
        " JOIN eyes USING (patient_key) JOIN images ON rank = worst"
        " WHERE number BETWEEN ? AND ? ORDER BY number",
        first,
        last,
    )
    for (_, grade, attention, *waits), rows in groupby(found, key=lambda row: row[:6]):
        eyes = []
        for patient_id, eye, eye_grade, status, code, review, rank, uri, photographs, *eye_waits in (
            row[6:] for row in rows
        ):
            known_id = patient_id or None
            file = uri.rpartition("/")[2]
            label, by_model = describe_ungraded(status, code), review == ReviewState.UNREAD
            wait = _describe_wait(*eye_waits)
            eyes.append(EyeOutcome(Eye(eye), eye_grade, label, by_model, rank, file, photographs, wait))
        eyes.sort(key=lambda outcome: list(Eye).index(outcome.eye))
        yield Patient(known_id, tuple(eyes), grade, bool(attention), _describe_wait(*waits))


def _describe_wait(under_review: int, queued: int, awaited: int | None) -> str | None:
    """Describe what an eye or a patient is waiting for. awaited: worst model grade of the images under review."""
    if under_review:
        return format_awaiting_reading(awaited)
    return AWAITING_GRADING if queued else None


def read_next_steps(file: Path | None) -> Mapping[str, str]:
    """Read next steps from a JSON object with keys `0` to `4`, `attention` and `reading`; others keep the default.

    Raises UsageError if the file cannot be read or has another content.
    """
    if file is None:
        return NEXT_STEPS
    try:
        steps = _STEPS.validate_python(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise UsageError(f"cannot read {file} as a JSON object of strings: {error}") from error
    if unknown := steps.keys() - NEXT_STEPS.keys():
        raise UsageError(f"{file}: unknown keys {', '.join(sorted(unknown))}; use {', '.join(NEXT_STEPS)}")
    return {**NEXT_STEPS, **steps}
