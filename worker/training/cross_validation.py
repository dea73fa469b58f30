"""Cross-validation by source: what a camera that the model has never seen may expect of a recipe.

Each source is left out in turn; a model is fitted to the others, with epoch and thresholds chosen on their validation
images, and graded on all images of the source that was left out.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import SourceError
from worker.core.storage.atomic_write import write_atomically
from worker.core.vocabulary import REFERABLE_FROM
from worker.model.ordinal import Thresholds
from worker.training.dataset import Dataset
from worker.training.fit import FitCallbacks, fit
from worker.training.plan import Plan
from worker.training.split import HASH_DIGITS, Split, group_images, split_groups
from worker.training.trainer import make_trainer
from worker.training.validation import SOURCE_MEAN, validate

RESULT_FILE = "left_out.json"
METRICS = (
    "referable_auc",
    "referable_sensitivity",
    "referable_specificity",
    "referable_sensitivity_at_specificity_90",
    "quadratic_weighted_kappa",
)

SourceResult = dict[str, float | None]
"""METRICS on the source that was left out, and `images`, its number of images."""


def cross_validate(
    plan: Plan,
    dataset: Dataset,
    folder: Path,
    *,
    initial: Mapping[str, NDArray[np.float32]] | None,
    checkpoint_every_s: float,
    callbacks: Callable[[str], FitCallbacks],
) -> dict[str, SourceResult]:
    """Return the metrics of each source when it was left out, by its name.

    callbacks: called with the name of each source that is left out next. A source whose result is in `folder` is not
    fitted again, and an interrupted fit continues. Raises SourceError for fewer than three sources, an image without a
    source, and a source with too few images to choose thresholds.
    """
    sources = dataset.sources
    names = np.unique(sources).tolist()
    if "" in names:
        raise SourceError(f"{int((sources == '').sum()):,} photographs have no source; fill the column `source`")
    if len(names) < 3:
        raise SourceError(f"{len(names)} sources ({', '.join(names)}); cross-validation by source needs three")
    splits = {name: split_without(name, plan, dataset) for name in names}
    results = {}
    for name, (split, left_out) in splits.items():
        part = folder / name.replace(" ", "_")
        part.mkdir(exist_ok=True)
        if not (part / RESULT_FILE).exists():
            fitted = fit(
                plan,
                dataset,
                split,
                part,
                initial=initial,
                resume=True,
                checkpoint_every_s=checkpoint_every_s,
                callbacks=callbacks(name),
            )
            predict = make_trainer(plan, 1, fitted.weights).predict
            result = _measure(predict(dataset.enhanced[left_out]), dataset.grades[left_out], fitted.thresholds)
            write_atomically(part / RESULT_FILE, (json.dumps(result, indent=2) + "\n").encode())
        results[name] = json.loads((part / RESULT_FILE).read_bytes())
    return results


def average_results(results: Mapping[str, SourceResult]) -> SourceResult:
    """Return the mean of each metric over the sources on which it is defined."""
    means: SourceResult = {}
    for metric in METRICS:
        defined = [value for result in results.values() if (value := result[metric]) is not None]
        means[metric] = float(np.mean(defined)) if defined else None
    return means


def split_without(name: str, plan: Plan, dataset: Dataset) -> tuple[Split, NDArray[np.int64]]:
    """Return the split of the other sources, and the indices of the images of the source that is left out.

    Images in a group with an image of that source, by pixels or by patient, are in no part. Raises SourceError if the
    validation images of a source are all referable, or none is.
    """
    index, sources = dataset.index, dataset.sources
    chosen = _limit(index.pixel_hashes, sources, plan.images_per_source)
    groups = group_images(index.pixel_hashes, index.patients)
    others = chosen & ~np.isin(groups, groups[sources == name])
    held_out = split_groups(index.pixel_hashes, index.patients, share=plan.validation_share, seed=plan.seed)
    split = Split(np.flatnonzero(others & ~held_out), np.flatnonzero(others & held_out))
    for source in np.unique(sources[sources != name]).tolist():
        referable = dataset.grades[split.validation][sources[split.validation] == source] >= REFERABLE_FROM
        if referable.all() or not referable.any():
            raise SourceError(
                f"source {source} has {int(referable.sum())} referable of {len(referable)} validation photographs;"
                " both kinds are needed: add photographs"
            )
    return split, np.flatnonzero(chosen & (sources == name))


def _limit(pixel_hashes: list[str], sources: NDArray[np.str_], limit: int | None) -> NDArray[np.bool_]:
    """Return which images are used, bool (N,): of each source those with the lowest hashes."""
    chosen = np.ones(len(sources), bool)
    if limit is None:
        return chosen
    ranks = np.array([int(pixels[:HASH_DIGITS], 16) for pixels in pixel_hashes], np.float64)
    for source in np.unique(sources):
        members = np.flatnonzero(sources == source)
        chosen[members[np.argsort(ranks[members], kind="stable")[limit:]]] = False
    return chosen


def _measure(probabilities: NDArray[np.float32], grades: NDArray[np.int64], thresholds: Thresholds) -> SourceResult:
    metrics = validate(probabilities, grades, np.full(len(grades), ""), thresholds)
    return {"images": float(len(grades)), **{metric: metrics[f"{SOURCE_MEAN}{metric}"] for metric in METRICS}}
