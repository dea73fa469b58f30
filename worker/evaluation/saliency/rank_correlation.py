"""How alike two maps of one field are: Spearman's rank correlation over the round field."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from worker.imaging.upsample import upsample_saliency

GRID = 64
"""Maps are compared on a grid of this side, whatever their own."""
FIELD = 0.9
"""Of the inscribed radius; beyond it a turn brings in what was not seen."""


def to_grid(saliency: NDArray[np.float32]) -> NDArray[np.float32]:
    """A map (h, w) on the grid, (GRID, GRID), as people see it."""
    return upsample_saliency(saliency, GRID, GRID)


def rank_correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """From -1 to 1; both on the grid. A map that is the same everywhere has nothing in common with any: 0."""
    places = (np.arange(GRID) - (GRID - 1) / 2) / (GRID / 2)
    field = np.hypot(places[:, None], places[None, :]) <= FIELD
    # Interpolation leaves differences in the last digit where a map is even.
    first, second = (rankdata(np.round(each[field], 5)) for each in (one, other))
    first, second = first - first.mean(), second - second.mean()
    size = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / size if size > 0 else 0.0
