"""Read the outcomes of a run's photographs, and which study each one belongs to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from sqlalchemy import Connection, Engine, select

from worker.core.batches import batched
from worker.core.dicom.derived_uid import find_instance_uid
from worker.core.fhir.outcomes import PhotographOutcome, Reading
from worker.core.uris import UID_PATTERN
from worker.core.vocabulary import Eye, ReviewState, Status
from worker.ledger.database import read_transaction
from worker.ledger.final_grades import (
    DECIDED_STATES,
    DISCLOSED_STATES,
    PENDING_STATES,
    ReviewDecision,
    read_decisions,
    resolve_review,
    with_final_grades,
)
from worker.ledger.review_schema import decisions, reading_rules
from worker.ledger.runs import Run
from worker.ledger.schema import gradings, images, inference_configurations

BY_READER = "by a reader"
PAGE_ROWS = 5000
PAGE_IDS = 1000
_OUTPUTS = ("p_ge1", "p_ge2", "p_ge3", "p_ge4")


@dataclass(frozen=True, slots=True)
class StudyPhotograph:
    """A photograph of a run and its study.

    study_key: names the study within the run. Without a Study Instance UID, the photographs of a patient in the run are
    a study, and a photograph without a patient id is one. study_date: None if it is not known.
    """

    study_key: str
    study_uid: str | None
    patient_id: str | None
    study_date: date | None
    outcome: PhotographOutcome


def read_study_photographs(engine: Engine, run: Run) -> Iterator[list[StudyPhotograph]]:
    """Yield the photographs of a run in pages, ordered by image id. Raises DatabaseError."""
    columns = images.c.patient_id, images.c.study_date
    query = _select(run).add_columns(*columns).order_by(gradings.c.image_id).limit(PAGE_ROWS)
    after = ""
    while True:
        with read_transaction(engine) as connection:
            page = connection.execute(query.where(gradings.c.image_id > after)).all()
            if not page:
                return
            outcomes = _to_outcomes(connection, run, page)
        yield [_locate(row, outcome) for row, outcome in zip(page, outcomes, strict=True)]
        after = page[-1].image_id


def read_outcomes(engine: Engine, run: Run, image_ids: Sequence[str]) -> list[PhotographOutcome]:
    """Return the outcomes of those of these images that the run has. No patient id is read. Raises DatabaseError."""
    outcomes: list[PhotographOutcome] = []
    with read_transaction(engine) as connection:
        for page in batched(image_ids, PAGE_IDS):
            query = _select(run).where(gradings.c.image_id.in_(page)).order_by(gradings.c.image_id)
            outcomes += _to_outcomes(connection, run, connection.execute(query).all())
    return outcomes


def find_study_uid(uri: str) -> str | None:
    """Return the Study Instance UID in `dicomweb://SERVER/STUDY/SERIES/INSTANCE`; None for another URI."""
    scheme, _, path = uri.partition("://")
    parts = path.split("/")
    return parts[1] if scheme == "dicomweb" and len(parts) == 4 and UID_PATTERN.fullmatch(parts[1]) else None


def _select(run: Run) -> Any:
    configurations = inference_configurations
    return with_final_grades(
        select(
            gradings.c.image_id,
            images.c.uri,
            images.c.eye,
            gradings.c.status,
            gradings.c.grade,
            *(gradings.c[name] for name in _OUTPUTS),
            gradings.c.error_code,
            gradings.c.settled_at,
            configurations.c.program_version,
        )
        .join(images, images.c.image_id == gradings.c.image_id)
        .outerjoin(configurations, configurations.c.configuration_id == gradings.c.configuration_id)
        .where(gradings.c.run_id == run.run_id)
    )


def _to_outcomes(connection: Connection, run: Run, rows: Sequence[Any]) -> list[PhotographOutcome]:
    if not rows:
        return []
    of_rows = decisions.c.image_id.between(rows[0].image_id, rows[-1].image_id)
    decided = read_decisions(connection, run.run_id, run.name, of_rows, withdrawn=True)
    readers = connection.scalar(select(reading_rules.c.readers).where(reading_rules.c.run_id == run.run_id)) or 1
    return [_to_outcome(row, decided.get(row.image_id, ()), readers) for row in rows]


def _to_outcome(row: Any, recorded: Sequence[ReviewDecision], readers: int) -> PhotographOutcome:
    """recorded: all decisions on the photograph, oldest first."""
    decided = [one for one in recorded if one.withdrawn_at is None]
    withdrawn_at = recorded[-1].withdrawn_at if recorded else None
    review = ReviewState(row.review)
    is_read = review in DECIDED_STATES
    return PhotographOutcome(
        image_id=row.image_id,
        eye=Eye(row.eye),
        status=Status(row.status),
        grade=row.final_grade if is_read else _worst_grade(row.grade, review, decided),
        model_grade=row.grade,
        outputs=None if row.grade is None else tuple(_shortest_decimal(getattr(row, name)) for name in _OUTPUTS),
        reason=BY_READER if is_read else row.error_code,
        reading=_find_reading(review, row.final_grade, decided, readers, is_withdrawn=withdrawn_at is not None),
        readers=row.decided_by if is_read else None,
        is_withdrawn=withdrawn_at is not None,
        changed_at=max((at for at in (row.settled_at, row.decided_at, withdrawn_at) if at is not None), default=None),
        instance_uid=find_instance_uid(row.image_id, row.uri),
        program_version=row.program_version,
    )


def _worst_grade(model_grade: int | None, review: ReviewState, decided: Sequence[ReviewDecision]) -> int | None:
    """Return the worst grade given so far. Hidden decisions do not count: they would influence the second reader."""
    disclosed = decided if review in DISCLOSED_STATES else ()
    given = (model_grade, *(one.grade for one in disclosed))
    return max((grade for grade in given if grade is not None), default=None)


def _find_reading(
    review: ReviewState,
    final_grade: int | None,
    decided: Sequence[ReviewDecision],
    readers: int,
    *,
    is_withdrawn: bool,
) -> Reading:
    if review in PENDING_STATES:
        return Reading.PENDING
    if review not in DECIDED_STATES:
        return Reading.NONE
    earlier = (resolve_review(decided[:count], readers) for count in range(1, len(decided)))
    changed = is_withdrawn or any(one.state in DECIDED_STATES and one.grade != final_grade for one in earlier)
    return Reading.AMENDED if changed else Reading.FINAL


def _locate(row: Any, outcome: PhotographOutcome) -> StudyPhotograph:
    study_uid = find_study_uid(row.uri)
    # Hashed: ids of patients may contain characters that separate parts of a search.
    owner = f"patient {row.patient_id}" if row.patient_id else f"image {row.image_id}"
    key = study_uid or str(uuid5(NAMESPACE_URL, owner))
    return StudyPhotograph(key, study_uid, row.patient_id or None, row.study_date, outcome)


def _shortest_decimal(value: float) -> float:
    """Round to the shortest decimal of the same float32: SQLite returns float64, PostgreSQL float32."""
    return float(str(np.float32(value)))
