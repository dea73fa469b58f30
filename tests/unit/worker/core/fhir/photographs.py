"""Photographs and studies for the tests of FHIR resources."""

from datetime import UTC, date, datetime
from typing import Any

from worker.core.fhir.outcomes import PhotographOutcome, Reading, Study
from worker.core.fhir.resources import Publisher
from worker.core.vocabulary import Eye, Status

MODEL = "0123456789abcdef"
SYSTEM = "https://clinic.example/fundus"
PUBLISHER = Publisher(SYSTEM)
STUDY_UID = "2.25.132997506438021057705397397476931278748"
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


def photograph(image_id: str, grade: int | None = 0, eye: Eye = Eye.RIGHT, **values: Any) -> PhotographOutcome:
    """Make a graded photograph whose outputs are 0.9 up to the grade and 0.1 above; ungradable if the grade is None."""
    graded = grade is not None
    outcome: dict[str, Any] = {
        "status": Status.GRADED if graded else Status.UNGRADABLE,
        "grade": grade,
        "model_grade": grade,
        "outputs": tuple(0.9 if k <= grade else 0.1 for k in range(1, 5)) if graded else None,
        "reason": None if graded else "blurred",
        "reading": Reading.NONE,
        "readers": None,
        "is_withdrawn": False,
        "changed_at": NOON,
        "instance_uid": None,
        "program_version": "1.2.0",
    }
    return PhotographOutcome(image_id, eye, **(outcome | values))


def study(*photographs: PhotographOutcome, **values: Any) -> Study:
    defaults: dict[str, Any] = {
        "run": "night-1",
        "model_id": MODEL,
        "model_name": "toy",
        "key": STUDY_UID,
        "study_uid": STUDY_UID,
        "subject": {"system": f"{SYSTEM}/patient", "value": "p1"},
        "taken": date(2026, 11, 28),
        "photographs": photographs,
    }
    return Study(**(defaults | values))
