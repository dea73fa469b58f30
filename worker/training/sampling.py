"""Which pictures an epoch shows, in which order: rare grades more often than they come, none left out for long."""

import numpy as np
from numpy.typing import NDArray


def order_epoch(
    grades: NDArray[np.int64], *, batch_size: int, balance: float, seed: int, epoch: int
) -> NDArray[np.int64]:
    """Indices of the pictures of one epoch, int (steps, batch_size); a function of its arguments alone.

    grades: (N,), those of the training pictures. An epoch has N draws or fewer, in whole batches, at least one. A grade
    with n pictures gets draws in proportion to n ** balance; each of its pictures comes before any comes again.
    """
    random = np.random.default_rng([seed, epoch])
    present, counts = np.unique(grades, return_counts=True)
    wanted = counts.astype(float) ** balance
    draws = max(len(grades) // batch_size, 1) * batch_size
    quotas = _allocate(draws, wanted / wanted.sum())
    drawn = [
        _draw(np.flatnonzero(grades == grade), quota, random) for grade, quota in zip(present, quotas, strict=True)
    ]
    return random.permutation(np.concatenate(drawn)).reshape(-1, batch_size)


def _allocate(total: int, shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole numbers with this total; the largest remainders are rounded up."""
    exact = shares * total
    whole = np.floor(exact).astype(np.int64)
    up = np.argsort(whole - exact, kind="stable")[: total - int(whole.sum())]
    whole[up] += 1
    return whole


def _draw(images: NDArray[np.int64], quota: int, random: np.random.Generator) -> NDArray[np.int64]:
    rounds = -(-quota // len(images))
    return np.concatenate([random.permutation(images) for _ in range(rounds)] or [images[:0]])[:quota]
