"""Read the outcomes of a run for the images that have a reference grade."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, select

from worker.core.errors import RunError
from worker.core.vocabulary import Status
from worker.ledger.database import read_transaction
from worker.ledger.schema import OUTPUTS, gradings, images, models, runs

NOT_GRADED = -1
"""Value of `Labelled.grades` for an image without a grade."""


@dataclass(frozen=True, slots=True)
class GradedRun:
    """A run with at least one graded image; `manifest` is the manifest of its model."""

    run_id: int
    name: str
    state: str
    model_id: str
    model_name: str
    manifest: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Labelled:
    """N images with a reference grade, sorted by id.

    ids, eyes, patients, statuses: str (N,); an unknown patient is empty. reference: int (N,), 0 to 4. grades: int (N,),
    NOT_GRADED for an image without a grade. probabilities: float64 (N, 5), NaN for an image without a grade.
    """

    ids: NDArray[np.str_]
    eyes: NDArray[np.str_]
    patients: NDArray[np.str_]
    statuses: NDArray[np.str_]
    reference: NDArray[np.int64]
    grades: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    def select(self, wanted: NDArray[np.bool_] | NDArray[np.int64]) -> "Labelled":
        """Return a subset, by a mask (N,) or by indices in the desired order."""
        return Labelled(*(getattr(self, name)[wanted] for name in self.__slots__))

    @property
    def assessed(self) -> "Labelled":
        """The images that are graded or ungradable, without failed and unfinished ones."""
        return self.select(np.isin(self.statuses, [str(Status.GRADED), str(Status.UNGRADABLE)]))

    @property
    def clusters(self) -> NDArray[np.int64]:
        """Cluster number of each image, int (N,); the images of one patient form a cluster."""
        image_keys = np.char.add("image ", self.ids)
        keys = np.where(self.patients == "", image_keys, np.char.add("patient ", self.patients))
        return np.unique(keys, return_inverse=True)[1]


def find_graded_run(engine: Engine, name: str) -> GradedRun:
    """Return the run with this name. Raises RunError if it does not exist or has no graded image yet."""
    query = (
        select(runs.c.run_id, runs.c.name, runs.c.state, runs.c.model_id, models.c.name, models.c.document)
        .outerjoin(models, models.c.model_id == runs.c.model_id)
        .where(runs.c.name == name)
    )
    with read_transaction(engine) as connection:
        row = connection.execute(query).first()
    if row is None:
        raise RunError(f"no run {name!r}; `fundus status` lists them")
    if row.model_id is None:
        raise RunError(f"run {name} has no graded image yet")
    return GradedRun(*row)


def read_labelled(engine: Engine, run: GradedRun) -> Labelled:
    """Read the labelled images of a run. Raises RunError if no image has a reference grade."""
    query = (
        select(
            gradings.c.image_id,
            images.c.eye,
            images.c.patient_id,
            gradings.c.status,
            images.c.reference_grade,
            gradings.c.grade,
            *(gradings.c[output] for output in OUTPUTS),
        )
        .join(images, images.c.image_id == gradings.c.image_id)
        .where(gradings.c.run_id == run.run_id, images.c.reference_grade.is_not(None))
        .order_by(gradings.c.image_id)
    )
    with read_transaction(engine) as connection:
        rows = connection.execute(query).all()
    if not rows:
        raise RunError(f"no image of run {run.name} has a reference grade: enqueue it with --labels")
    ids, eyes, patients, statuses, reference, grades, *outputs = zip(*rows, strict=True)
    return Labelled(
        ids=np.array(ids),
        eyes=np.array(eyes),
        patients=np.array([patient or "" for patient in patients]),
        statuses=np.array(statuses),
        reference=np.array(reference, np.int64),
        grades=np.array([NOT_GRADED if grade is None else grade for grade in grades], np.int64),
        probabilities=np.array(outputs, np.float64).T,
    )
