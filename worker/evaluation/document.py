"""Evaluate a run against reference grades; the result is one JSON document."""

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import UsageError
from worker.evaluation.agreement import count_confusion
from worker.evaluation.auc_loss import CostlyImage, find_costliest
from worker.evaluation.bootstrap import Estimate, bootstrap_metrics
from worker.evaluation.json_document import JsonDocument
from worker.evaluation.labelled import NOT_GRADED, GradedRun, Labelled

SUBGROUP_METRICS = (
    "gradable_fraction",
    "quadratic_weighted_kappa",
    "referable_auc",
    "referable_sensitivity",
    "referable_specificity",
)
"""Metrics of subgroups; the others need more images than most subgroups have."""


class Subgroup(JsonDocument):
    """Metrics of the images with one value in one column."""

    column: str
    value: str
    images: int
    figures: dict[str, Estimate]


class Evaluation(JsonDocument):
    """Agreement of a run with reference grades.

    by_status: number of labelled images by status. patients: None if no image has a patient id. confusion: rows are
    reference grades, columns grades. costliest: by cut, the images that cost most AUC.
    """

    run: str
    state: str
    model: str
    model_id: str
    labelled: int
    by_status: dict[str, int]
    patients: int | None
    figures: dict[str, Estimate]
    confusion: list[list[int]]
    groups: list[Subgroup]
    costliest: dict[str, list[CostlyImage]]
    resamples: int
    seed: int


Columns = dict[str, NDArray[np.str_]]
"""Values of all images, str (N,), by column name."""


def evaluate(
    run: GradedRun, images: Labelled, columns: Columns, *, resamples: int, seed: int, on_progress: Callable[[], object]
) -> Evaluation:
    """Compute all metrics with intervals, also for each value of each column.

    columns: for the same images. on_progress: called after each resample of each group.
    """
    assessed = images.assessed
    groups = []
    for column, values in columns.items():
        values_of_assessed = values[np.isin(images.ids, assessed.ids)]
        for value in np.unique(values_of_assessed):
            members = assessed.select(values_of_assessed == value)
            figures = bootstrap_metrics(members, resamples=resamples, seed=seed, on_progress=on_progress)
            kept = {name: figures[name] for name in SUBGROUP_METRICS}
            groups.append(Subgroup(column=column, value=str(value), images=len(members.ids), figures=kept))
    return Evaluation(
        run=run.name,
        state=run.state,
        model=run.model_name,
        model_id=run.model_id,
        labelled=len(images.ids),
        by_status=dict(Counter(images.statuses.tolist())),
        patients=len(np.unique(assessed.clusters)) if assessed.patients.any() else None,
        figures=bootstrap_metrics(assessed, resamples=resamples, seed=seed, on_progress=on_progress),
        confusion=count_confusion(assessed.select(assessed.grades != NOT_GRADED)).astype(int).tolist(),
        groups=groups,
        costliest=find_costliest(assessed),
        resamples=resamples,
        seed=seed,
    )


def read_subgroup_columns(images: Labelled, file: Path | None) -> Columns:
    """Return the eye and the columns of a CSV file with a column `image_id`; empty for images that are not in the file.

    Raises UsageError if the file cannot be read or has no column `image_id`.
    """
    columns: Columns = {}
    if len(np.unique(images.eyes)) > 1:
        columns["eye"] = images.eyes
    if file is None:
        return columns
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read {file}: {error}") from error
    if not rows or "image_id" not in rows[0]:
        raise UsageError(f"{file} has no column image_id")
    row_of_image = {row["image_id"]: row for row in rows}
    for name in rows[0]:
        if name != "image_id":
            columns[name] = np.array([str(row_of_image.get(i, {}).get(name) or "") for i in images.ids.tolist()])
    return columns
