"""How sure a figure is: percentile intervals of the bootstrap (Efron 1979), patients drawn with replacement.

The eyes of one patient are alike; drawing images by themselves would promise more than the data hold.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.evaluation.agreement import Weights, measure
from worker.evaluation.labelled import Labelled

RESAMPLES = 1000
LEVEL = 0.95
SEED = 0


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with the ends of its interval; None where the images cannot tell."""

    value: float | None
    low: float | None
    high: float | None


def estimate(
    images: Labelled,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    step: Callable[[], object] = lambda: None,
) -> dict[str, Figure]:
    """Every figure of `measure` with its interval. images: judged ones. `step` is called after each resample."""
    values = measure(images, np.ones(len(images.ids)))
    draws: dict[str, list[float]] = {name: [] for name in values}
    for weights in _draw(images, resamples, seed):
        for name, value in measure(images, weights).items():
            draws[name].append(value)
        step()
    return {name: _figure(value, draws[name]) for name, value in values.items()}


def estimate_mean(values: NDArray[np.float64], *, resamples: int = RESAMPLES, seed: int = SEED) -> Figure:
    """The mean of one value per image, (N,), with its interval; None of both where N is 0."""
    if not len(values):
        return Figure(None, None, None)
    drawn = np.random.default_rng(seed).choice(values, (resamples, len(values))).mean(axis=1)
    return _figure(float(values.mean()), drawn.tolist())


def _draw(images: Labelled, resamples: int, seed: int) -> Iterator[Weights]:
    clusters = images.clusters
    count = int(clusters.max()) + 1 if len(clusters) else 0
    random = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(random.integers(0, count, count), minlength=count)[clusters].astype(float)


def _figure(value: float, drawn: list[float]) -> Figure:
    if np.isnan(value):
        return Figure(None, None, None)
    told = np.array(drawn)[~np.isnan(drawn)]
    if not told.size:
        return Figure(value, None, None)
    low, high = np.quantile(told, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Figure(value, float(low), float(high))
