"""Bootstrap confidence intervals of metrics (percentile method, Efron 1979), with patients as the resampling unit.

The eyes of one patient are correlated; resampling single images would make the intervals too narrow.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.evaluation.agreement import Weights, compute_metrics
from worker.evaluation.labelled import Labelled

RESAMPLES = 1000
LEVEL = 0.95
"""Confidence level of the intervals."""
SEED = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric with the ends of its 95% interval; None if undefined."""

    value: float | None
    low: float | None
    high: float | None


def bootstrap_metrics(
    images: Labelled,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    on_progress: Callable[[], object] = lambda: None,
) -> dict[str, Estimate]:
    """Return every metric of `compute_metrics` with its interval.

    images: graded or ungradable ones. on_progress: called after each resample.
    """
    values = compute_metrics(images, np.ones(len(images.ids)))
    draws: dict[str, list[float]] = {name: [] for name in values}
    for weights in _resample_weights(images, resamples, seed):
        for name, value in compute_metrics(images, weights).items():
            draws[name].append(value)
        on_progress()
    return {name: _percentile_interval(value, draws[name]) for name, value in values.items()}


def bootstrap_mean(values: NDArray[np.float64], *, resamples: int = RESAMPLES, seed: int = SEED) -> Estimate:
    """Return the mean of one value per image, (N,), with its interval; undefined if N is 0."""
    if not len(values):
        return Estimate(None, None, None)
    drawn = np.random.default_rng(seed).choice(values, (resamples, len(values))).mean(axis=1)
    return _percentile_interval(float(values.mean()), drawn.tolist())


def _resample_weights(images: Labelled, resamples: int, seed: int) -> Iterator[Weights]:
    clusters = images.clusters
    count = int(clusters.max()) + 1 if len(clusters) else 0
    random = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(random.integers(0, count, count), minlength=count)[clusters].astype(float)


def _percentile_interval(value: float, drawn: list[float]) -> Estimate:
    if np.isnan(value):
        return Estimate(None, None, None)
    defined = np.array(drawn)[~np.isnan(drawn)]
    if not defined.size:
        return Estimate(value, None, None)
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high))
