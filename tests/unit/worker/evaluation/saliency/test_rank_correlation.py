"""Two maps are as alike as the order of their places."""

import numpy as np
import pytest

from worker.evaluation.saliency.rank_correlation import GRID, rank_correlation, to_grid

MAP = np.random.default_rng(0).random((GRID, GRID)).astype(np.float32)


def test_map_is_like_itself_and_like_whatever_rises_with_it() -> None:
    assert rank_correlation(MAP, MAP) == pytest.approx(1)
    assert rank_correlation(MAP, np.sqrt(MAP)) == pytest.approx(1, abs=1e-4)
    assert rank_correlation(MAP, 1 - MAP) == pytest.approx(-1, abs=1e-4)


def test_even_map_is_like_nothing() -> None:
    even = to_grid(np.ones((7, 7), np.float32))
    assert rank_correlation(even, MAP) == 0
    assert rank_correlation(even, even) == 0


def test_what_lies_outside_the_field_does_not_count() -> None:
    corner = MAP.copy()
    corner[:5, :5] = 9
    assert rank_correlation(MAP, corner) == pytest.approx(1)


def test_independent_maps_are_not_alike() -> None:
    other = np.random.default_rng(1).random((GRID, GRID)).astype(np.float32)
    assert abs(rank_correlation(MAP, other)) < 0.1
