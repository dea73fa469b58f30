"""Counts of a run for the overview of its report."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine, func, select

from worker.core.errors import RunError
from worker.core.vocabulary import REFERABLE_FROM, Grade, ReviewState, Status
from worker.ledger.database import read_transaction
from worker.ledger.final_grades import with_final_grades
from worker.ledger.outbox_runs import count_publications, describe_publications
from worker.ledger.schema import gradings, models, runs
from worker.ledger.site_acceptance import describe_missing_validation
from worker.model.bundle.ensemble import AnyManifest, parse_manifest
from worker.model.ordinal import DEFAULT_THRESHOLDS, Thresholds
from worker.report.snapshot import Snapshot

THROUGHPUT_BINS = 60


@dataclass(frozen=True, slots=True)
class ReportedRun:
    """A run with its model; `model_id` and `manifest` are None until a worker has started it.

    not_validated: a warning if the model is not accepted at the run's site. published: how much of the outbox is
    published; None if nothing is in it.
    """

    run_id: int
    name: str
    kind: str
    state: str
    queue: str
    source: str
    chunk_size: int
    created_at: datetime
    finished_at: datetime | None
    model_id: str | None
    site: str | None
    manifest: AnyManifest | None
    not_validated: str | None
    published: str | None

    @property
    def thresholds(self) -> Thresholds:
        """Thresholds of the model; 0.5 if the run has no model yet."""
        return DEFAULT_THRESHOLDS if self.manifest is None else self.manifest.thresholds


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of a run. Statuses and grades are final ones, except in `by_model_grade`.

    shares: fractions of the graded images. referable, patients_referable: by the final grade, or while the review is in
    progress by the worst grade that the model or a reader has given so far. errors: images by status and code.
    confusion: images by reference grade and grade, None if the image has no grade. reviews: images by review state,
    without unreviewed ones; `changed`: reviewed images whose final grade differs from the model's. throughput: images
    settled in each of equal intervals from `began` to `ended`. to_refer, urgent (grade 4), to_photograph_again (an eye
    without a grade), to_read: patients, where an image without a patient id counts as one. evidence_scales: the
    different scales of the saliency maps, in logits.
    """

    images: int
    by_status: dict[str, int]
    by_grade: dict[Grade, int]
    by_model_grade: dict[Grade, int]
    shares: dict[Grade, float]
    referable: int
    reviews: dict[ReviewState, int]
    changed: int
    errors: dict[tuple[str, str], int]
    confusion: dict[tuple[int, int | None], int]
    patients: int
    patients_referable: int
    patients_attention: int
    patients_under_review: int
    to_refer: int
    urgent: int
    to_photograph_again: int
    to_read: int
    evidence_scales: tuple[float | None, ...]
    began: datetime | None
    ended: datetime | None
    throughput: tuple[int, ...]


def find_reported_run(engine: Engine, name: str) -> ReportedRun:
    """Read a run and its model. Raises RunError if there is no such run."""
    columns = [
        "run_id", "name", "kind", "state", "queue", "source", "chunk_size", "created_at", "finished_at", "model_id",
        "site",
    ]  # fmt: skip
    query = (
        select(*(runs.c[column] for column in columns), models.c.document.label("manifest"))
        .outerjoin(models, models.c.model_id == runs.c.model_id)
        .where(runs.c.name == name)
    )
    with read_transaction(engine) as connection:
        row = connection.execute(query).first()
        if row is None:
            raise RunError(f"no run {name!r}; `fundus status` lists them")
        not_validated = describe_missing_validation(connection, row.site, row.model_id)
        published = describe_publications(count_publications(connection, [row.run_id]))
    manifest = None if row.manifest is None else parse_manifest(row.manifest)
    return ReportedRun(**row._asdict() | {"manifest": manifest, "not_validated": not_validated, "published": published})


def read_grade_shares(engine: Engine, run_id: int) -> dict[Grade, float]:
    """Return the share of each final grade among the graded images of a run."""
    final = with_final_grades(select(gradings.c.image_id).where(gradings.c.run_id == run_id)).subquery()
    query = select(final.c.final_grade, func.count()).group_by(final.c.final_grade)
    with read_transaction(engine) as connection:
        counts = {grade: count for grade, count in connection.execute(query) if grade is not None}
    return _shares({grade: counts.get(grade, 0) for grade in Grade})


def summarise(snapshot: Snapshot) -> Summary:
    """Compute the summary of a snapshot."""
    grades = _by_grade(snapshot, "grade")
    ((began, ended),) = snapshot.query("SELECT min(settled_at), max(settled_at) FROM images")
    has_patient_id = "patient_key LIKE 'patient %'"
    return Summary(
        images=snapshot.count("SELECT count(*) FROM images"),
        by_status=dict(snapshot.query("SELECT status, count(*) FROM images GROUP BY status ORDER BY min(rank)")),
        by_grade=grades,
        by_model_grade=_by_grade(snapshot, "model_grade"),
        shares=_shares(grades),
        referable=snapshot.count("SELECT count(*) FROM images WHERE urgency >= ?", int(REFERABLE_FROM)),
        reviews={
            ReviewState(state): count
            for state, count in snapshot.query(
                "SELECT review, count(*) FROM images WHERE review <> ? GROUP BY review", ReviewState.UNREAD
            )
        },
        changed=snapshot.count(
            "SELECT count(*) FROM images WHERE review IN (?, ?) AND grade IS NOT model_grade",
            ReviewState.READ,
            ReviewState.ARBITRATED,
        ),
        errors={
            (status, code): count
            for status, code, count in snapshot.query(
                "SELECT status, error_code, count(*) AS images FROM images WHERE error_code IS NOT NULL AND status <> ?"
                " GROUP BY status, error_code ORDER BY images DESC, error_code",
                Status.QUEUED,
            )
        },
        confusion={
            (reference, grade): count
            for reference, grade, count in snapshot.query(
                "SELECT reference_grade, grade, count(*) FROM images WHERE reference_grade IS NOT NULL"
                " GROUP BY reference_grade, grade"
            )
        },
        patients=snapshot.count(f"SELECT count(*) FROM patients WHERE {has_patient_id}"),  # noqa: S608 - constant
        patients_referable=snapshot.count(f"SELECT count(*) FROM patients WHERE {has_patient_id} AND referable"),  # noqa: S608
        patients_attention=snapshot.count(f"SELECT count(*) FROM patients WHERE {has_patient_id} AND attention"),  # noqa: S608
        patients_under_review=snapshot.count(f"SELECT count(*) FROM patients WHERE {has_patient_id} AND under_review"),  # noqa: S608
        to_refer=snapshot.count("SELECT count(*) FROM patients WHERE referable"),
        urgent=snapshot.count("SELECT count(*) FROM patients WHERE grade = ?", int(Grade.PROLIFERATIVE)),
        to_photograph_again=snapshot.count("SELECT count(*) FROM patients WHERE attention"),
        to_read=snapshot.count("SELECT count(*) FROM patients WHERE under_review"),
        evidence_scales=tuple(
            scale
            for (scale,) in snapshot.query(
                "SELECT DISTINCT evidence_scale FROM images WHERE model_status = ? ORDER BY 1", Status.GRADED
            )
        ),
        began=_to_datetime(began),
        ended=_to_datetime(ended),
        throughput=_measure_throughput(snapshot, began, ended),
    )


def _by_grade(snapshot: Snapshot, column: str) -> dict[Grade, int]:
    query = f"SELECT {column}, count(*) FROM images WHERE {column} IS NOT NULL GROUP BY {column}"  # noqa: S608 - column name from this module
    counts = dict(snapshot.query(query))
    return {grade: counts.get(grade, 0) for grade in Grade}


def _shares(counts: Mapping[Grade, int]) -> dict[Grade, float]:
    total = sum(counts.values())
    return {grade: count / total if total else 0.0 for grade, count in counts.items()}


def _to_datetime(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _measure_throughput(snapshot: Snapshot, began: float | None, ended: float | None) -> tuple[int, ...]:
    """Count the images settled in each of at most THROUGHPUT_BINS equal intervals."""
    if began is None or ended is None:
        return ()
    length = ended - began
    bins = min(THROUGHPUT_BINS, max(1, int(length)))
    counts = dict(
        snapshot.query(
            "SELECT min(CAST((settled_at - ?) / ? * ? AS INTEGER), ? - 1) AS bin, count(*) FROM images"
            " WHERE settled_at IS NOT NULL GROUP BY bin",
            began, length or 1.0, bins, bins,
        )
    )  # fmt: skip
    return tuple(counts.get(number, 0) for number in range(bins))
