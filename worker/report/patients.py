"""Outcome of each eye and each patient of a run, and the next step.

The grade of an eye is that of its worst gradable image; the grade of a patient is that of the worse eye. An eye without
a gradable image needs attention, whatever the other eye shows. Grades are final grades: an image under review has none
until its readers have finished.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from worker.core.errors import UsageError
from worker.core.vocabulary import Eye
from worker.report.snapshot import Snapshot

ATTENTION = "attention"
AWAITING_REVIEW = "reading"
NEXT_STEPS = {
    "0": "Rescreen at the routine interval.",
    "1": "Rescreen at the routine interval.",
    "2": "Refer to an ophthalmologist.",
    "3": "Refer to an ophthalmologist promptly.",
    "4": "Refer to an ophthalmologist urgently.",
    ATTENTION: "Rephotograph the ungraded eye, or examine it clinically.",
    AWAITING_REVIEW: "Await the final grade from the readers.",
}
"""Next steps by outcome. They name no interval, because each programme sets its own."""

_STEPS = TypeAdapter(dict[str, str], config=ConfigDict(strict=True))


@dataclass(frozen=True, slots=True)
class EyeOutcome:
    """Outcome of one eye. `rank`, `file` and `status` refer to its worst image.

    grade: None if no image has one. photographs: number of images of the eye. under_review: an image of the eye has a
    review in progress.
    """

    eye: Eye
    grade: int | None
    status: str
    rank: int
    file: str
    photographs: int
    under_review: bool


@dataclass(frozen=True, slots=True)
class Patient:
    """Outcome of one patient. `patient_id` is None for an image without one, which counts as a patient."""

    patient_id: str | None
    eyes: tuple[EyeOutcome, ...]
    grade: int | None
    needs_attention: bool
    under_review: bool

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Keys of the next steps."""
        grade = () if self.grade is None else (str(self.grade),)
        return (
            *grade,
            *((ATTENTION,) if self.needs_attention else ()),
            *((AWAITING_REVIEW,) if self.under_review else ()),
        )


def read_patients(snapshot: Snapshot, first: int, last: int) -> Iterator[Patient]:
    """Yield the patients with these numbers, both included: referable first, then needing attention, then the rest.

    A patient with referable images under review counts as referable. Queued and cancelled images are ignored.
    """
    found = snapshot.query(
        "SELECT number, patients.grade, attention, patients.under_review, patient_id, eyes.eye, images.grade, status,"
        " rank, uri, photographs, eyes.under_review"
        " FROM patients JOIN eyes USING (patient_key) JOIN images ON rank = worst"
        " WHERE number BETWEEN ? AND ? ORDER BY number",
        first,
        last,
    )
    for (_, grade, attention, under_review), rows in groupby(found, key=lambda row: row[:4]):
        eyes = []
        for patient_id, eye, eye_grade, status, rank, uri, photographs, eye_under_review in (row[4:] for row in rows):
            known_id = patient_id or None
            file = uri.rpartition("/")[2]
            eyes.append(EyeOutcome(Eye(eye), eye_grade, status, rank, file, photographs, bool(eye_under_review)))
        eyes.sort(key=lambda outcome: list(Eye).index(outcome.eye))
        yield Patient(known_id, tuple(eyes), grade, bool(attention), bool(under_review))


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
