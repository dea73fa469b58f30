"""Upsampling is cubic convolution with a = -0.75, checked against the formula."""

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.imaging.upsample import upsample_cubic, upsample_saliency

A = -0.75


def kernel(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys 1981, eq. 15, for any a."""
    d = np.abs(distance)
    near, far = (A + 2) * d**3 - (A + 3) * d**2 + 1, A * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def weights(size: int, wanted: int) -> NDArray[np.float64]:
    """(wanted, size): each output pixel as a sum of input pixels; indices past an edge count for the edge."""
    centres = (np.arange(wanted) + 0.5) * size / wanted - 0.5
    indices = np.arange(-2, size + 2)
    taps = kernel(centres[:, None] - indices)
    matrix = np.zeros((wanted, size))
    for index, column in zip(np.clip(indices, 0, size - 1), taps.T, strict=True):
        matrix[:, index] += column
    return matrix


@pytest.mark.parametrize("shape", [(7, 7), (1, 2), (10, 5)])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (300, 467), (5, 9)])
def test_upsampled_map_is_the_formulas(shape: tuple[int, int], height: int, width: int) -> None:
    values = np.random.default_rng(0).random(shape, np.float32)
    expected = weights(shape[0], height) @ values @ weights(shape[1], width).T
    np.testing.assert_allclose(upsample_cubic(values, height, width), expected, atol=2e-6)
    positive = np.maximum(expected, 0)
    np.testing.assert_allclose(upsample_saliency(values, height, width), positive / positive.max(), atol=2e-6)


def test_map_of_zeros_stays_zero() -> None:
    assert not upsample_saliency(np.zeros((7, 7), np.float32), 64, 64).any()
