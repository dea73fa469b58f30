"""Rank correlation of two maps."""

import numpy as np
import pytest

from worker.evaluation.saliency.rank_correlation import GRID, rank_correlation, to_grid

MAP = np.random.default_rng(0).random((GRID, GRID)).astype(np.float32)


def test_correlation_is_invariant_to_monotone_transforms() -> None:
    assert rank_correlation(MAP, MAP) == pytest.approx(1)
    assert rank_correlation(MAP, np.sqrt(MAP)) == pytest.approx(1, abs=1e-4)
    assert rank_correlation(MAP, 1 - MAP) == pytest.approx(-1, abs=1e-4)


def test_correlation_with_a_uniform_map_is_zero() -> None:
    uniform = to_grid(np.ones((7, 7), np.float32))
    assert rank_correlation(uniform, MAP) == 0
    assert rank_correlation(uniform, uniform) == 0


def test_pixels_outside_the_field_are_ignored() -> None:
    corner = MAP.copy()
    corner[:5, :5] = 9
    assert rank_correlation(MAP, corner) == pytest.approx(1)


def test_independent_maps_are_uncorrelated() -> None:
    other = np.random.default_rng(1).random((GRID, GRID)).astype(np.float32)
    assert abs(rank_correlation(MAP, other)) < 0.1
