"""One image in one run: what the ledger knows of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, Engine, Select, select

from worker.console.filters import is_unsure
from worker.core.vocabulary import Eye, Review, Status
from worker.imaging.recipe import Recipe
from worker.ledger.database import read_transaction
from worker.ledger.final_grades import with_final_grades
from worker.ledger.schema import OUTPUTS, gradings, images, models, runs
from worker.model.ordinal import (
    ALL_OUTPUTS,
    DEFAULT_THRESHOLDS,
    ExplainedOutputs,
    Thresholds,
    describe_explained_outputs,
)

OTHER_RUNS_SHOWN = 20

Told = TypeVar("Told")

_EXPLAINED = TypeAdapter(ExplainedOutputs)
_THRESHOLDS = TypeAdapter(Thresholds)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a photograph lies and how its model crops it."""

    uri: str
    sha256: str | None
    recipe: Recipe | None


@dataclass(frozen=True, slots=True)
class ReadImage:
    """One image of a run; `outputs` are P(grade >= 0) to P(grade >= 4), None where it is not graded.

    thresholds: of the outputs, 0.5 where its model's document does not say.
    explained: what the colours of its overlay show, for people.
    """

    run_id: int
    run: str
    image_id: str
    source: Source
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
    overlay_key: str | None
    explained: str
    error_code: str | None
    error_detail: str | None
    attempts: int
    settled_at: datetime | None
    review: Review
    final_grade: int | None
    decided_by: str | None
    decided_at: datetime | None

    @property
    def shown(self) -> str:
        """What a reader is shown as the model's outcome, in one word for a form."""
        return f"{self.status}:{'' if self.grade is None else self.grade}:{self.model_id or ''}"

    @property
    def can_be_read(self) -> bool:
        """Whether there is anything that a person could decide on."""
        return self.status in (Status.GRADED, Status.UNGRADABLE)


@dataclass(frozen=True, slots=True)
class OtherRun:
    """The same photograph in another run."""

    run: str
    status: Status
    grade: int | None
    settled_at: datetime | None


def read_image(engine: Engine, run: str, image_id: str) -> ReadImage | None:
    """None where the run has no such image. Raises DatabaseError."""
    with read_transaction(engine) as connection:
        return select_image(connection, run, image_id)


def select_image(connection: Connection, run: str, image_id: str) -> ReadImage | None:
    """The same in the caller's transaction."""
    row = connection.execute(_query().where(runs.c.name == run, gradings.c.image_id == image_id)).first()
    if row is None:
        return None
    cells: dict[str, Any] = row._asdict()
    outputs = tuple(cells.pop(name) for name in OUTPUTS)
    document = cells.pop("document")
    source = Source(cells.pop("uri"), cells.pop("sha256"), _recipe(document))
    cells |= {
        "eye": Eye(row.eye),
        "status": Status(row.status),
        "review": Review(row.review),
        "flags": tuple(word for word in (row.flags or "").split(",") if word),
        "unsure": bool(row.unsure),
        "thresholds": _told(document, "thresholds", _THRESHOLDS, otherwise=DEFAULT_THRESHOLDS),
        "explained": describe_explained_outputs(
            _told(document, "explained_outputs", _EXPLAINED, otherwise=ALL_OUTPUTS)
        ),
    }
    return ReadImage(**cells, source=source, outputs=None if row.grade is None else outputs)


def other_runs(engine: Engine, image: ReadImage) -> list[OtherRun]:
    """The latest first, OTHER_RUNS_SHOWN at most."""
    query = (
        select(runs.c.name, gradings.c.status, gradings.c.grade, gradings.c.settled_at)
        .join(runs, runs.c.run_id == gradings.c.run_id)
        .where(gradings.c.image_id == image.image_id, gradings.c.run_id != image.run_id)
        .order_by(gradings.c.run_id.desc())
        .limit(OTHER_RUNS_SHOWN)
    )
    with read_transaction(engine) as connection:
        return [OtherRun(name, Status(status), *rest) for name, status, *rest in connection.execute(query)]


def _query() -> Select[Any]:
    return with_final_grades(
        select(
            gradings.c.run_id,
            runs.c.name.label("run"),
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
            is_unsure(gradings.c.run_id).label("unsure"),
            gradings.c.flags,
            gradings.c.model_id,
            models.c.name.label("model_name"),
            models.c.document,
            gradings.c.overlay_key,
            gradings.c.error_code,
            gradings.c.error_detail,
            gradings.c.attempts,
            gradings.c.settled_at,
        )
        .join(runs, runs.c.run_id == gradings.c.run_id)
        .join(images, images.c.image_id == gradings.c.image_id)
        .outerjoin(models, models.c.model_id == gradings.c.model_id)
    )


def _recipe(document: Any) -> Recipe | None:
    """How the model's photographs are cropped; None for a document that says nothing of it."""
    if not isinstance(document, dict) or "recipe" not in document:
        return None
    try:
        return Recipe.model_validate(document["recipe"])
    except ValidationError:
        return None


def _told(document: Any, name: str, kind: TypeAdapter[Told], *, otherwise: Told) -> Told:
    """What a model's document says under a name; `otherwise` where it says nothing that can be understood."""
    # A whole manifest would load what reads weights, which no console holds.
    if not isinstance(document, dict):
        return otherwise
    try:
        return kind.validate_python(document.get(name, otherwise))
    except ValidationError:
        return otherwise
