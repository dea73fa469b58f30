"""Sample the images of an epoch: rare grades are drawn more often, and every image is used before any repeats."""

import numpy as np
from numpy.typing import NDArray


def order_epoch(
    grades: NDArray[np.int64], *, batch_size: int, balance: float, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Return the indices of the images of one epoch, int (steps, batch_size), a function of the arguments alone.

    grades: (N,), grades of the training images. An epoch has as many whole batches as N images fill, at least one. A
    grade with n images gets draws in proportion to n ** balance; all its images are drawn before any is repeated.
    """
    random = np.random.default_rng([seed, epoch])
    present, counts = np.unique(grades, return_counts=True)
    weights = counts.astype(float) ** balance
    draws = max(len(grades) // batch_size, 1) * batch_size
    quotas = _allocate(draws, weights / weights.sum())
    drawn = [
        _draw(np.flatnonzero(grades == grade), quota, random) for grade, quota in zip(present, quotas, strict=True)
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
