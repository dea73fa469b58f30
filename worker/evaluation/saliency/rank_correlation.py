"""Spearman's rank correlation of two saliency maps over the round field."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from worker.imaging.upsample import upsample_saliency

GRID = 64
"""Side of the grid on which maps of any size are compared."""
FIELD_FRACTION = 0.9
"""Radius of the compared area as a fraction of the inscribed radius; rotations uncover pixels outside it."""


def to_grid(saliency: NDArray[np.float32]) -> NDArray[np.float32]:
    """Enlarge a map (h, w) to the grid, (GRID, GRID), as in the overlay."""
    return upsample_saliency(saliency, GRID, GRID)


def rank_correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the rank correlation of two maps on the grid, in [-1, 1]; 0 if a map is constant."""
    axis = (np.arange(GRID) - (GRID - 1) / 2) / (GRID / 2)
    field = np.hypot(axis[:, None], axis[None, :]) <= FIELD_FRACTION
    # Rounding removes differences that interpolation leaves in flat areas.
    first, second = (rankdata(np.round(each[field], 5)) for each in (one, other))
    first, second = first - first.mean(), second - second.mean()
    size = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / size if size > 0 else 0.0
