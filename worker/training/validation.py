"""Compute the validation metrics of a network, the same as those of `fundus evaluate`."""

import math

import numpy as np
from numpy.typing import NDArray

from worker.core.vocabulary import Status
from worker.evaluation.agreement import compute_metrics
from worker.evaluation.labelled import Labelled
from worker.model.ordinal import DEFAULT_THRESHOLDS, Thresholds, decode_outputs

SOURCE_MEAN = "source_mean_"
"""Prefix of the metrics that are averaged over the sources, each of which counts equally."""


def validate(
    probabilities: NDArray[np.float32],
    grades: NDArray[np.int64],
    sources: NDArray[np.str_],
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
) -> dict[str, float | None]:
    """Return all metrics by name, each also averaged over the sources, and for each source with its name as a prefix.

    `validation_loss` is among them. None is a metric that is undefined on these images; a mean is over the sources on
    which the metric is defined. probabilities: float32 (N, 5). grades: reference grades, int (N,). sources: str (N,).
    """
    metrics = _measure(probabilities, grades, thresholds)
    by_source = {
        source: _measure(probabilities[sources == source], grades[sources == source], thresholds)
        for source in np.unique(sources).tolist()
    }
    means = {f"{SOURCE_MEAN}{name}": _mean([one[name] for one in by_source.values()]) for name in metrics}
    named = {
        f"{source}/{name}": value for source, values in by_source.items() if source for name, value in values.items()
    }
    return {**metrics, **means, **named}


def _mean(values: list[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _measure(
    probabilities: NDArray[np.float32], grades: NDArray[np.int64], thresholds: Thresholds
) -> dict[str, float | None]:
    metrics = compute_metrics(to_labelled(probabilities, grades, thresholds), np.ones(len(grades)))
    targets = grades[:, None] >= np.arange(probabilities.shape[1])
    likelihood = np.clip(np.where(targets, probabilities, 1 - probabilities).astype(np.float64), 1e-7, 1)
    metrics["validation_loss"] = float(-np.log(likelihood).mean())
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}


def to_labelled(
    probabilities: NDArray[np.float32], grades: NDArray[np.int64], thresholds: Thresholds = DEFAULT_THRESHOLDS
) -> Labelled:
    """Grade the images and return them like those of a run."""
    count = len(grades)
    unknown = np.full(count, "")
    return Labelled(
        ids=np.arange(count).astype(str),
        eyes=unknown,
        patients=unknown,
        statuses=np.full(count, str(Status.GRADED)),
        reference=grades,
        grades=np.array([decode_outputs(row, thresholds).grade for row in probabilities], np.int64),
        probabilities=probabilities.astype(np.float64),
    )
