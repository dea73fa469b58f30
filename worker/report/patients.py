"""What a run says of each eye and each patient, and what to do next.

An eye is as bad as its worst gradable photograph, a patient as bad as the worse eye. An eye without a gradable
photograph makes the patient need attention, whatever the other eye shows.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from worker.contract.errors import UsageError
from worker.contract.vocabulary import Eye, Grade, Status
from worker.report.rows import Row

ATTENTION = "attention"
NEXT_STEPS = {
    "0": "Screen again at the usual interval.",
    "1": "Screen again at the usual interval.",
    "2": "Refer to an ophthalmologist.",
    "3": "Refer to an ophthalmologist soon.",
    "4": "Refer to an ophthalmologist urgently.",
    ATTENTION: "Photograph the eye again, or have it seen by a person.",
}
"""By a patient's outcome. A programme has its own; these name no interval on purpose."""

_STEPS = TypeAdapter(dict[str, str], config=ConfigDict(strict=True))


@dataclass(frozen=True, slots=True)
class EyeOutcome:
    """`worst`: the image that decides. `grade`: None where no photograph of the eye could be graded."""

    eye: Eye
    grade: int | None
    worst: Row
    photographs: int


@dataclass(frozen=True, slots=True)
class Patient:
    """`patient_id`: None for an image that names no patient and stands alone."""

    patient_id: str | None
    eyes: tuple[EyeOutcome, ...]
    grade: int | None
    needs_attention: bool

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The keys of what to do next."""
        grade = () if self.grade is None else (str(self.grade),)
        return (*grade, *((ATTENTION,) if self.needs_attention else ()))

    @property
    def urgency(self) -> tuple[float, ...]:
        """Sorts referable patients first, then those who need attention, then the others."""
        referable = self.grade is not None and self.grade >= Grade.MODERATE
        group = 0.0 if referable else 1.0 if self.needs_attention else 2.0
        return (group, *min(outcome.worst.urgency for outcome in self.eyes))


def judge_patients(rows: Iterable[Row]) -> list[Patient]:
    """The most urgent first. Images that are not settled, or were cancelled, tell nothing and are left out."""
    eyes: dict[tuple[str, Eye], list[Row]] = defaultdict(list)
    for row in rows:
        if row.status not in (Status.QUEUED, Status.CANCELLED):
            # The \0 keeps an image's id from being a patient's.
            eyes[row.patient_id or f"\0{row.image_id}", row.eye].append(row)
    outcomes: dict[str, list[EyeOutcome]] = defaultdict(list)
    for (patient, eye), photographs in eyes.items():
        outcomes[patient].append(_judge_eye(eye, photographs))
    return sorted(map(_judge_patient, outcomes.values()), key=lambda patient: patient.urgency)


def read_next_steps(file: Path | None) -> Mapping[str, str]:
    """The sentences of a JSON object, keys `0` to `4` and `attention`; the shipped one for a key that it leaves out.

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


def _judge_eye(eye: Eye, photographs: list[Row]) -> EyeOutcome:
    graded = [row for row in photographs if row.grade is not None]
    worst = min(graded or photographs, key=lambda row: row.urgency)
    return EyeOutcome(eye, worst.grade, worst, len(photographs))


def _judge_patient(eyes: list[EyeOutcome]) -> Patient:
    grades = [outcome.grade for outcome in eyes if outcome.grade is not None]
    return Patient(
        patient_id=eyes[0].worst.patient_id,
        eyes=tuple(sorted(eyes, key=lambda outcome: list(Eye).index(outcome.eye))),
        grade=max(grades, default=None),
        needs_attention=len(grades) < len(eyes),
    )
