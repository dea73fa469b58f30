"""Sample the images of an epoch: rare strata are drawn more often, and every image is used before any repeats.

A stratum is a reference grade of one source, or its images without a grade.
"""

import numpy as np
from numpy.typing import NDArray

from worker.core.vocabulary import Grade
from worker.training.dataset import UNGRADED


def number_strata(grades: NDArray[np.int64], sources: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return the number of each image's stratum, int (N,). grades: (N,), UNGRADED without one. sources: (N,)."""
    _, source_numbers = np.unique(sources, return_inverse=True)
    return np.asarray(source_numbers * (len(Grade) - UNGRADED) + grades - UNGRADED, np.int64)


def order_epoch(
    strata: NDArray[np.int64], *, batch_size: int, balance: float, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Return the indices of the images of one epoch, int (steps, batch_size), a function of the arguments alone.

    strata: (N,), of the training images. An epoch has as many whole batches as N images fill, at least one. A stratum
    with n images gets draws in proportion to n ** balance; all its images are drawn before any is repeated.
    """
    random = np.random.default_rng([seed, epoch])
    present, counts = np.unique(strata, return_counts=True)
    weights = counts.astype(float) ** balance
    draws = max(len(strata) // batch_size, 1) * batch_size
    quotas = _allocate(draws, weights / weights.sum())
    drawn = [
        _draw(np.flatnonzero(strata == stratum), quota, random) for stratum, quota in zip(present, quotas, strict=True)
    ]
    return random.permutation(np.concatenate(drawn)).reshape(-1, batch_size)


def _allocate(total: int, shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Split a total into integers in proportion to shares, by the largest remainder method."""
    exact = shares * total
    counts = np.floor(exact).astype(np.int64)
    up = np.argsort(counts - exact, kind="stable")[: total - int(counts.sum())]
    counts[up] += 1
    return counts


def _draw(images: NDArray[np.int64], quota: int, random: np.random.Generator) -> NDArray[np.int64]:
    rounds = -(-quota // len(images))
    return np.concatenate([random.permutation(images) for _ in range(rounds)] or [images[:0]])[:quota]
