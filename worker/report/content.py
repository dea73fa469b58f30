"""What the first page of a report says, counted from the rows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, func, select

from worker.contract.database import reading
from worker.contract.errors import RunError
from worker.contract.schema import gradings, models, runs
from worker.contract.vocabulary import REFERABLE_FROM, Grade, Status
from worker.model.ensemble_bundle import AnyManifest, parse_manifest
from worker.report.patients import Patient
from worker.report.rows import Row

WORDS = {
    Grade.NO_DR: "No DR",
    Grade.MILD: "Mild",
    Grade.MODERATE: "Moderate",
    Grade.SEVERE: "Severe",
    Grade.PROLIFERATIVE: "Proliferative",
}
PACE_BINS = 60


@dataclass(frozen=True, slots=True)
class ReportedRun:
    """A run that a worker has begun."""

    run_id: int
    name: str
    state: str
    source: str
    created_at: datetime
    finished_at: datetime | None
    model_id: str
    manifest: AnyManifest


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of a run; `shares` are fractions of the graded images, `pace` images settled in each of equal spans."""

    images: int
    by_status: dict[str, int]
    by_grade: dict[Grade, int]
    shares: dict[Grade, float]
    referable: int
    errors: dict[tuple[str, str], int]
    patients: int
    patients_referable: int
    patients_attention: int
    began: datetime | None
    ended: datetime | None
    pace: tuple[int, ...]


def find_reported(engine: Engine, name: str) -> ReportedRun:
    """Raises RunError when there is no such run, or no worker has begun it."""
    query = (
        select(
            runs.c.run_id, runs.c.name, runs.c.state, runs.c.source, runs.c.created_at, runs.c.finished_at,
            runs.c.model_id, models.c.document.label("manifest"),
        )
        .outerjoin(models, models.c.model_id == runs.c.model_id)
        .where(runs.c.name == name)
    )  # fmt: skip
    with reading(engine) as connection:
        row = connection.execute(query).first()
    if row is None:
        raise RunError(f"no run {name!r}; `fundus status` lists them")
    if row.model_id is None:
        raise RunError(f"run {name} has no graded image yet")
    return ReportedRun(**row._asdict() | {"manifest": parse_manifest(row.manifest)})


def count_grades(engine: Engine, run_id: int) -> dict[Grade, float]:
    """Fractions of the graded images of another run, to lay beside this one's."""
    query = select(gradings.c.grade, func.count()).where(gradings.c.run_id == run_id).group_by(gradings.c.grade)
    with reading(engine) as connection:
        counts = {grade: count for grade, count in connection.execute(query) if grade is not None}
    return _shares({grade: counts.get(grade, 0) for grade in Grade})


def summarise(rows: Sequence[Row], patients: Sequence[Patient]) -> Summary:
    """Count everything once."""
    by_grade = Counter(row.grade for row in rows if row.grade is not None)
    grades = {grade: by_grade[grade] for grade in Grade}
    times = sorted(row.settled_at for row in rows if row.settled_at is not None)
    named = [patient for patient in patients if patient.patient_id is not None]
    return Summary(
        images=len(rows),
        by_status=dict(Counter(str(row.status) for row in rows)),
        by_grade=grades,
        shares=_shares(grades),
        referable=sum(count for grade, count in grades.items() if grade >= REFERABLE_FROM),
        errors=dict(
            Counter(
                (str(row.status), row.error_code)
                for row in rows
                if row.error_code is not None and row.status is not Status.QUEUED
            ).most_common()
        ),
        patients=len(named),
        patients_referable=sum(patient.grade is not None and patient.grade >= REFERABLE_FROM for patient in named),
        patients_attention=sum(patient.needs_attention for patient in named),
        began=times[0] if times else None,
        ended=times[-1] if times else None,
        pace=_pace(times),
    )


def _shares(counts: dict[Grade, int]) -> dict[Grade, float]:
    total = sum(counts.values())
    return {grade: count / total if total else 0.0 for grade, count in counts.items()}


def _pace(times: Sequence[datetime]) -> tuple[int, ...]:
    """Of at most PACE_BINS spans of equal length."""
    if not times:
        return ()
    length = (times[-1] - times[0]).total_seconds()
    bins = min(PACE_BINS, max(1, int(length)))
    counts = Counter(
        min(int((at - times[0]).total_seconds() / length * bins), bins - 1) if length else 0 for at in times
    )
    return tuple(counts[number] for number in range(bins))
