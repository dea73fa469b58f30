"""Read everything that the ledger stores about one image in one run."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import ColumnElement, Connection, Engine, Select, and_, false, or_, select

from worker.console.filters import is_low_confidence
from worker.core.predictions import Evidence
from worker.core.vocabulary import Eye, ReviewState, Status
from worker.imaging.recipe import Recipe
from worker.ledger.database import read_transaction
from worker.ledger.final_grades import with_final_grades
from worker.ledger.schema import OUTPUTS, gradings, images, inference_configurations, models, runs
from worker.model.ordinal import (
    ALL_OUTPUTS,
    DEFAULT_THRESHOLDS,
    ExplainedOutputs,
    Thresholds,
    describe_explained_outputs,
)

PATIENT_IMAGES_SHOWN = 40

Value = TypeVar("Value")

_EXPLAINED = TypeAdapter(ExplainedOutputs)
_THRESHOLDS = TypeAdapter(Thresholds)


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Location of a photograph and the recipe of the model that graded it, which defines the crop.

    sha256: from the manifest. content_sha256: of the bytes that were graded, None if unknown.
    """

    uri: str
    sha256: str | None
    recipe: Recipe | None
    content_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class ImageDetail:
    """One image of a run. `outputs` are P(grade >= 0) to P(grade >= 4), None if it has no grade.

    thresholds: one per output, 0.5 if the model's manifest has none.
    saliency, evidence, evidence_scale: as the ledger stores them. explained: description of what the map shows.
    """

    run_id: int
    run: str
    run_source: str
    image_id: str
    source: ImageSource
    patient_id: str | None
    eye: Eye
    reference_grade: int | None
    registered_at: datetime
    status: Status
    grade: int | None
    outputs: tuple[float, ...] | None
    thresholds: Thresholds
    referable: bool | None
    unsure: bool
    flags: tuple[str, ...]
    model_id: str | None
    model_name: str | None
    program_version: str | None
    engine: str | None
    precision: str | None
    device: str | None
    saliency: bytes | None
    evidence: float | None
    evidence_scale: float | None
    overlay_key: str | None
    content_version: str | None
    explained: str
    error_code: str | None
    error_detail: str | None
    attempts: int
    settled_at: datetime | None
    review: ReviewState
    final_grade: int | None
    decided_by: str | None
    decided_at: datetime | None

    @property
    def model_result(self) -> str:
        """The model's result as one word: a form carries it to detect that it has changed since."""
        return f"{self.status}:{'' if self.grade is None else self.grade}:{self.model_id or ''}"

    @property
    def strength(self) -> float:
        """Strength of the map's maximum, in [0, 1], see `Evidence`."""
        return 1.0 if self.evidence is None else Evidence(self.evidence, self.evidence_scale).strength

    @property
    def is_reviewable(self) -> bool:
        """Whether a reader can decide on the image: it is graded or ungradable."""
        return self.status in (Status.GRADED, Status.UNGRADABLE)


@dataclass(frozen=True, slots=True)
class PatientImage:
    """Another photograph of the same patient, or the same one in another run.

    grade: the model's. hides_result: it must not be shown to the reader yet.
    """

    run: str
    run_source: str
    image_id: str
    uri: str
    eye: Eye
    status: Status
    grade: int | None
    error_code: str | None
    settled_at: datetime | None
    review: ReviewState
    final_grade: int | None
    hides_result: bool


def read_image_detail(engine: Engine, run: str, image_id: str) -> ImageDetail | None:
    """Return an image of a run; None if the run has no such image. Raises DatabaseError."""
    with read_transaction(engine) as connection:
        return select_image_detail(connection, run, image_id)


def select_image_detail(connection: Connection, run: str, image_id: str) -> ImageDetail | None:
    """Return an image as `read_image_detail` does, in the caller's transaction."""
    row = connection.execute(_query().where(runs.c.name == run, gradings.c.image_id == image_id)).first()
    if row is None:
        return None
    fields: dict[str, Any] = row._asdict()
    outputs = tuple(fields.pop(name) for name in OUTPUTS)
    document = fields.pop("document")
    source = ImageSource(fields.pop("uri"), fields.pop("sha256"), _recipe(document), fields.pop("content_sha256"))
    explained = _parse_field(document, "explained_outputs", _EXPLAINED, default=ALL_OUTPUTS)
    fields |= {
        "eye": Eye(row.eye),
        "status": Status(row.status),
        "review": ReviewState(row.review),
        "flags": tuple(word for word in (row.flags or "").split(",") if word),
        "unsure": bool(row.unsure),
        "thresholds": _parse_field(document, "thresholds", _THRESHOLDS, default=DEFAULT_THRESHOLDS),
        "explained": describe_explained_outputs(explained),
    }
    return ImageDetail(**fields, source=source, outputs=None if row.grade is None else outputs)


def read_patient_images(
    engine: Engine, image: ImageDetail, hidden: ColumnElement[bool] | None = None
) -> list[PatientImage]:
    """Return the other photographs of the patient and the same one in other runs, at most PATIENT_IMAGES_SHOWN.

    First those of the image's own run, the other eye before the same one, then those of other runs, latest first.
    hidden: condition on `gradings` and `reviews` for images of the run whose results are hidden from the reader.
    """
    of_patient = select(images.c.image_id).where(images.c.patient_id == image.patient_id)
    is_same = gradings.c.image_id == image.image_id
    query = with_final_grades(
        select(
            runs.c.name.label("run"),
            runs.c.source.label("run_source"),
            gradings.c.image_id,
            images.c.uri,
            images.c.eye,
            gradings.c.status,
            gradings.c.grade,
            gradings.c.error_code,
            gradings.c.settled_at,
            and_(gradings.c.run_id == image.run_id, false() if hidden is None else hidden).label("hidden"),
        )
        .join(runs, runs.c.run_id == gradings.c.run_id)
        .join(images, images.c.image_id == gradings.c.image_id)
        .where(is_same if image.patient_id is None else or_(is_same, gradings.c.image_id.in_(of_patient)))
        .where(or_(gradings.c.run_id != image.run_id, gradings.c.image_id != image.image_id))
        .order_by(
            gradings.c.run_id != image.run_id, gradings.c.run_id.desc(), images.c.eye == image.eye, gradings.c.image_id
        )
        .limit(PATIENT_IMAGES_SHOWN)
    )
    with read_transaction(engine) as connection:
        rows = connection.execute(query).all()
    kept_back = {row.image_id for row in rows if row.hidden}
    return [
        PatientImage(
            row.run,
            row.run_source,
            row.image_id,
            row.uri,
            Eye(row.eye),
            Status(row.status),
            row.grade,
            row.error_code,
            row.settled_at,
            ReviewState(row.review),
            row.final_grade,
            row.image_id in kept_back,
        )
        for row in rows
    ]


def _query() -> Select[Any]:
    return with_final_grades(
        select(
            gradings.c.run_id,
            runs.c.name.label("run"),
            runs.c.source.label("run_source"),
            gradings.c.image_id,
            images.c.uri,
            images.c.sha256,
            images.c.patient_id,
            images.c.eye,
            images.c.reference_grade,
            images.c.registered_at,
            gradings.c.status,
            gradings.c.grade,
            *(gradings.c[name] for name in OUTPUTS),
            gradings.c.referable,
            is_low_confidence(gradings.c.run_id).label("unsure"),
            gradings.c.flags,
            gradings.c.model_id,
            models.c.name.label("model_name"),
            models.c.document,
            *(inference_configurations.c[name] for name in ("program_version", "engine", "precision", "device")),
            gradings.c.saliency,
            gradings.c.evidence,
            gradings.c.evidence_scale,
            gradings.c.overlay_key,
            gradings.c.content_sha256,
            gradings.c.content_version,
            gradings.c.error_code,
            gradings.c.error_detail,
            gradings.c.attempts,
            gradings.c.settled_at,
        )
        .join(runs, runs.c.run_id == gradings.c.run_id)
        .join(images, images.c.image_id == gradings.c.image_id)
        .outerjoin(models, models.c.model_id == gradings.c.model_id)
        .outerjoin(inference_configurations, inference_configurations.c.configuration_id == gradings.c.configuration_id)
    )


def _recipe(document: Any) -> Recipe | None:
    """Return the recipe in a model manifest; None if it is missing or malformed."""
    if not isinstance(document, dict) or "recipe" not in document:
        return None
    try:
        return Recipe.model_validate(document["recipe"])
    except ValidationError:
        return None


def _parse_field(document: Any, name: str, kind: TypeAdapter[Value], *, default: Value) -> Value:
    """Return a field of a model manifest; `default` if it is missing or malformed."""
    # Parsing the whole manifest would import the reader of weights, which the console does not install.
    if not isinstance(document, dict):
        return default
    try:
        return kind.validate_python(document.get(name, default))
    except ValidationError:
        return default
