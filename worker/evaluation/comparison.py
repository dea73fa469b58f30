"""Compare two runs image by image."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest
from sqlalchemy import Engine, select

from worker.core.errors import RunError
from worker.core.vocabulary import REFERABLE_FROM, Grade, Status
from worker.evaluation.agreement import confusion_matrix, quadratic_weighted_kappa
from worker.evaluation.json_document import JsonDocument
from worker.evaluation.labelled import GradedRun
from worker.ledger.database import read_transaction
from worker.ledger.schema import gradings, images

SETTLED = (Status.GRADED, Status.UNGRADABLE, Status.FAILED, Status.QUARANTINED)


class Change(JsonDocument):
    """An image with different outcomes in the two runs; a grade is None if the run did not grade it."""

    image_id: str
    reference: int | None
    first: str
    second: str
    first_grade: int | None
    second_grade: int | None


class Comparison(JsonDocument):
    """Comparison of two runs on the images that are settled in both.

    matrix: rows are grades of the first run, columns of the second, for images graded in both. only_first_right,
    only_second_right: number of images with a reference grade for which only that run's referable decision is correct.
    mcnemar_p: p-value of the exact McNemar test (McNemar 1947) that both runs are equally often correct.
    """

    first: str
    second: str
    common: int
    only_in_first: int
    only_in_second: int
    same: int
    matrix: list[list[int]]
    quadratic_weighted_kappa: float | None
    labelled: int
    only_first_right: int
    only_second_right: int
    mcnemar_p: float | None
    changes: list[Change]


@dataclass(frozen=True, slots=True)
class _Outcome:
    status: str
    grade: int | None
    reference: int | None


def compare(engine: Engine, first: GradedRun, second: GradedRun) -> Comparison:
    """Compare two runs. Raises RunError if no image is settled in both."""
    firsts, seconds = _read(engine, first), _read(engine, second)
    common = sorted(firsts.keys() & seconds.keys())
    if not common:
        raise RunError(f"runs {first.name} and {second.name} have no settled image in common")
    pairs = {image_id: (firsts[image_id], seconds[image_id]) for image_id in common}
    changes = [
        Change(
            image_id=image_id,
            reference=one.reference,
            first=one.status,
            second=other.status,
            first_grade=one.grade,
            second_grade=other.grade,
        )
        for image_id, (one, other) in pairs.items()
        if (one.status, one.grade) != (other.status, other.grade)
    ]
    graded = [(one, other) for one, other in pairs.values() if one.grade is not None and other.grade is not None]
    matrix = confusion_matrix(*np.array([(one.grade, other.grade) for one, other in graded], np.int64).reshape(-1, 2).T)
    kappa = quadratic_weighted_kappa(matrix)
    labelled = [(one.reference, one.grade, other.grade) for one, other in graded if one.reference is not None]
    truth, first_referable, second_referable = (np.array(labelled, np.int64).reshape(-1, 3) >= REFERABLE_FROM).T
    only_first = int(((first_referable == truth) & (second_referable != truth)).sum())
    only_second = int(((first_referable != truth) & (second_referable == truth)).sum())
    return Comparison(
        first=first.name,
        second=second.name,
        common=len(common),
        only_in_first=len(firsts) - len(common),
        only_in_second=len(seconds) - len(common),
        same=len(common) - len(changes),
        matrix=matrix.astype(int).tolist(),
        quadratic_weighted_kappa=None if np.isnan(kappa) else kappa,
        labelled=len(labelled),
        only_first_right=only_first,
        only_second_right=only_second,
        mcnemar_p=float(binomtest(only_first, only_first + only_second).pvalue) if only_first + only_second else None,
        changes=sorted(changes, key=_size_of_change, reverse=True),
    )


def _read(engine: Engine, run: GradedRun) -> dict[str, _Outcome]:
    query = (
        select(gradings.c.image_id, gradings.c.status, gradings.c.grade, images.c.reference_grade)
        .join(images, images.c.image_id == gradings.c.image_id)
        .where(gradings.c.run_id == run.run_id, gradings.c.status.in_(SETTLED))
    )
    with read_transaction(engine) as connection:
        return {image_id: _Outcome(*rest) for image_id, *rest in connection.execute(query)}


def _size_of_change(change: Change) -> tuple[int, bool]:
    """Return a sort key: the difference of the grades, largest if only one run has a grade."""
    if change.first_grade is None or change.second_grade is None:
        return len(Grade), True
    difference = abs(change.first_grade - change.second_grade)
    crosses = (change.first_grade >= REFERABLE_FROM) != (change.second_grade >= REFERABLE_FROM)
    return difference, crosses
