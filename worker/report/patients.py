"""What a run says of each eye and each patient, and what to do next.

An eye is as bad as its worst gradable photograph, a patient as bad as the worse eye. An eye without a gradable
photograph makes the patient need attention, whatever the other eye shows. Grades are the final ones; what people still
read has none, and the patient waits for them.
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
READING = "reading"
NEXT_STEPS = {
    "0": "Screen again at the usual interval.",
    "1": "Screen again at the usual interval.",
    "2": "Refer to an ophthalmologist.",
    "3": "Refer to an ophthalmologist soon.",
    "4": "Refer to an ophthalmologist urgently.",
    ATTENTION: "Photograph the eye again, or have it seen by a person.",
    READING: "Wait for the readers, who have not finished.",
}
"""By a patient's outcome. A programme has its own; these name no interval on purpose."""

_STEPS = TypeAdapter(dict[str, str], config=ConfigDict(strict=True))


@dataclass(frozen=True, slots=True)
class EyeOutcome:
    """`rank`, `file` and `status` are of the image that decides; `grade`: None where none could be graded.

    `under_review`: people have begun to read a photograph of the eye, and have not finished.
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
    """`patient_id`: None for an image that names no patient and stands alone."""

    patient_id: str | None
    eyes: tuple[EyeOutcome, ...]
    grade: int | None
    needs_attention: bool
    under_review: bool

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The keys of what to do next."""
        grade = () if self.grade is None else (str(self.grade),)
        return (*grade, *((ATTENTION,) if self.needs_attention else ()), *((READING,) if self.under_review else ()))


def read_patients(snapshot: Snapshot, first: int, last: int) -> Iterator[Patient]:
    """Those of these numbers, both included: the referable first, then those who need attention, then the others.

    Who is referable by the model and waits for readers stands among the referable.
    Images that are not settled, or were cancelled, tell nothing and are left out.
    """
    found = snapshot.ask(
        "SELECT number, patients.grade, attention, patients.under_review, patient_id, eyes.eye, images.grade, status,"
        " rank, uri, photographs, eyes.under_review FROM patients JOIN eyes USING (who) JOIN images ON rank = worst"
        " WHERE number BETWEEN ? AND ? ORDER BY number",
        first,
        last,
    )
    for (_, grade, attention, waits), rows in groupby(found, key=lambda row: row[:4]):
        eyes = []
        for patient_id, eye, eye_grade, status, rank, uri, photographs, under_review in (row[4:] for row in rows):
            who = patient_id or None
            file = uri.rpartition("/")[2]
            eyes.append(EyeOutcome(Eye(eye), eye_grade, status, rank, file, photographs, bool(under_review)))
        eyes.sort(key=lambda outcome: list(Eye).index(outcome.eye))
        yield Patient(who, tuple(eyes), grade, bool(attention), bool(waits))


def read_next_steps(file: Path | None) -> Mapping[str, str]:
    """The sentences of a JSON object, keys `0` to `4`, `attention` and `reading`; the shipped ones for other keys.

    Raises UsageError for a file that cannot be read or holds something else.
    """
    if file is None:
        return NEXT_STEPS
    try:
        steps = _STEPS.validate_python(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise UsageError(f"cannot read {file} as a JSON object of sentences: {error}") from error
    if unknown := steps.keys() - NEXT_STEPS.keys():
        raise UsageError(f"{file}: {', '.join(sorted(unknown))}: keys are {', '.join(NEXT_STEPS)}")
    return {**NEXT_STEPS, **steps}
