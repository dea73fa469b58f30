"""The outcome of each eye of a study, from the outcomes of its photographs.

The grade of an eye is that of its worst gradable photograph, as in the report. A grade that is not referable is
withheld while another photograph of the eye waits to be graded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from worker.core.vocabulary import REFERABLE_FROM, Eye, Grade, Status

REPORTED_EYES = (Eye.RIGHT, Eye.LEFT)
_SETTLED = (Status.GRADED, Status.UNGRADABLE, Status.FAILED, Status.QUARANTINED)


class Reading(StrEnum):
    """How far people have read a photograph."""

    NONE = "none"
    PENDING = "pending"
    """A reader has begun, and the grade is not final."""
    FINAL = "final"
    AMENDED = "amended"
    """A later decision, or the withdrawal of one, has changed a grade that was final."""


class Absence(StrEnum):
    """Why an eye has no grade; codes of FHIR's code system `data-absent-reason`."""

    UNGRADABLE = "unknown"
    UNREADABLE = "error"
    WAITING = "temp-unknown"


@dataclass(frozen=True, slots=True)
class PhotographOutcome:
    """Outcome of one photograph.

    grade: the grade that counts now: the readers' if they have decided, otherwise the worst one given so far; None if
    there is no grade. model_grade, outputs: the model's, outputs are P(grade >= 1) to P(grade >= 4); None if it was not
    graded. reason: error code of a photograph without a grade. readers: names of those who decided. is_withdrawn:
    whether the latest decision was withdrawn. changed_at: time of the last change. instance_uid: SOP Instance UID; None
    if it is no DICOM instance. program_version: None if it is not recorded.
    """

    image_id: str
    eye: Eye
    status: Status
    grade: int | None
    model_grade: int | None
    outputs: tuple[float, ...] | None
    reason: str | None
    reading: Reading
    readers: str | None
    is_withdrawn: bool
    changed_at: datetime | None
    instance_uid: str | None
    program_version: str | None


@dataclass(frozen=True, slots=True)
class Study:
    """Photographs of one study in one run.

    key: names the study within its run; letters, digits, `.`, `_` and `-`. study_uid: Study Instance UID; None if it is
    not known. subject: FHIR Identifier of the patient; None if it is not known. taken: when the photographs were taken.
    """

    run: str
    model_id: str
    model_name: str
    key: str
    study_uid: str | None
    subject: Mapping[str, Any] | None
    taken: date | datetime | None
    photographs: Sequence[PhotographOutcome]

    @property
    def changed_at(self) -> datetime | None:
        """Time of the last change of an outcome."""
        return max((one.changed_at for one in self.photographs if one.changed_at is not None), default=None)


@dataclass(frozen=True, slots=True)
class EyeOutcome:
    """Outcome of one eye.

    shown: the photograph that the outcome is about, the worst gradable one if there is one. grade is None if `absence`
    says why. considered: all settled photographs of the eye, ordered by id. reading: of all gradable photographs, or of
    all ungradable ones if none is gradable. read: how many of `considered` people have read.
    """

    eye: Eye
    shown: PhotographOutcome
    grade: Grade | None
    absence: Absence | None
    reasons: tuple[str, ...]
    considered: tuple[PhotographOutcome, ...]
    reading: Reading
    read: int


def derive_eye_outcomes(study: Study) -> list[EyeOutcome]:
    """Derive the outcomes of the right and the left eye, in this order; an eye without a settled photograph has none.

    Photographs of an unknown eye are left out: their eye is never guessed.
    """
    by_eye = {eye: [one for one in study.photographs if one.eye is eye] for eye in REPORTED_EYES}
    return [_derive(eye, of_eye) for eye, of_eye in by_eye.items() if any(_is_settled(one) for one in of_eye)]


def _derive(eye: Eye, photographs: Sequence[PhotographOutcome]) -> EyeOutcome:
    considered = sorted(filter(_is_settled, photographs), key=lambda one: one.image_id)
    gradable = [one for one in considered if one.grade is not None]
    ungradable = [one for one in considered if one.status in (Status.GRADED, Status.UNGRADABLE)]
    shown = max(gradable, key=_severity) if gradable else (ungradable or considered)[0]
    counted = gradable or ungradable
    grade = None if shown.grade is None else Grade(shown.grade)
    absence = None
    if grade is None:
        absence = Absence.UNGRADABLE if ungradable else Absence.UNREADABLE
    elif grade < REFERABLE_FROM and any(one.status is Status.QUEUED for one in photographs):
        grade, absence = None, Absence.WAITING
    return EyeOutcome(
        eye=eye,
        shown=shown,
        grade=grade,
        absence=absence,
        reasons=() if gradable else tuple(sorted({one.reason for one in counted or considered if one.reason})),
        considered=tuple(considered),
        reading=Reading.NONE if absence is Absence.WAITING else _combine([one.reading for one in counted]),
        read=sum(_is_read(one) for one in considered),
    )


def _combine(readings: Sequence[Reading]) -> Reading:
    if not readings or all(one is Reading.NONE for one in readings):
        return Reading.NONE
    if any(one in (Reading.NONE, Reading.PENDING) for one in readings):
        return Reading.PENDING
    return Reading.AMENDED if Reading.AMENDED in readings else Reading.FINAL


def _severity(photograph: PhotographOutcome) -> tuple[int, tuple[float, ...], str]:
    """Order by grade, then by the model's outputs from the most severe one on, as the report does."""
    return photograph.grade or 0, tuple(reversed(photograph.outputs or ())), photograph.image_id


def _is_settled(photograph: PhotographOutcome) -> bool:
    return photograph.status in _SETTLED


def _is_read(photograph: PhotographOutcome) -> bool:
    return photograph.reading in (Reading.FINAL, Reading.AMENDED)
