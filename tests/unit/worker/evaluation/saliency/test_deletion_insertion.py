"""Deletion and insertion with a model whose answer is known: it counts the bright pixels of one patch."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.evaluation.saliency.deletion_insertion import (
    ORDERS,
    SHARES,
    _pixel_order,
    area_under_curve,
    measure_deletion_insertion,
)
from worker.evaluation.saliency.explainer import Explainer, Explanations

SIDE = 64
ROW, COLUMN = 2, 5
"""Cell of 8 x 8 pixels that the model looks at."""
PATCH = (slice(8 * ROW, 8 * ROW + 8), slice(8 * COLUMN, 8 * COLUMN + 8))


class PatchModel:
    """P(grade >= 1) is the patch's mean brightness."""

    def explain(self, pictures: Sequence[Any]) -> Explanations:
        values = np.array([picture[PATCH].mean() / 255 for picture in pictures], np.float32)
        probabilities = np.repeat(values[:, None], 5, axis=1)
        return Explanations(
            probabilities, np.ones(len(values), int), np.ones(len(values), int), np.zeros((len(values), 8, 8))
        )


def picture() -> NDArray[np.uint8]:
    black = np.zeros((SIDE, SIDE, 3), np.uint8)
    black[PATCH] = 255
    return black


def map_of(row: int, column: int) -> NDArray[np.float32]:
    cells = np.zeros((1, 8, 8), np.float32)
    cells[0, row, column] = 1
    return cells


def run(saliency: NDArray[np.float32], output: int = 1) -> Any:
    explainer = cast("Explainer", PatchModel())
    return measure_deletion_insertion(
        explainer, ["eye"], [picture()], saliency, np.array([output]), on_progress=lambda: None
    )


def test_order_of_the_map_begins_at_its_highest_place_and_takes_each_pixel_of_the_field_once() -> None:
    turns = _pixel_order("map", map_of(ROW, COLUMN)[0], SIDE, 0)
    field = turns < 2
    count = int(field.sum())
    assert count == pytest.approx(np.pi * 32**2, rel=0.01)
    assert sorted(turns[field]) == pytest.approx([number / count for number in range(count)])
    # The four pixels about the middle of the cell share the maximum.
    assert set(zip(*np.nonzero(turns < 4 / count), strict=True)) == {(r, c) for r in (19, 20) for c in (43, 44)}


def test_order_of_the_map_is_that_of_what_people_see() -> None:
    # Two cells share the peak: the cubic is highest between them, where a bilinear map is even.
    shared = map_of(ROW, COLUMN)[0] + map_of(ROW, COLUMN - 1)[0]
    turns = _pixel_order("map", shared, SIDE, 0)
    first = set(zip(*np.nonzero(turns < 4 / (turns < 2).sum()), strict=True))
    assert first == {(r, c) for r in (19, 20) for c in (39, 40)}


def test_order_from_the_centre_goes_outwards_and_random_ones_differ_by_seed() -> None:
    turns = _pixel_order("centre", np.zeros((8, 8), np.float32), SIDE, 0)
    assert turns[32, 32] < turns[32, 40] < turns[32, 60] < turns[0, 0] == 2
    empty = np.zeros((8, 8), np.float32)
    assert np.array_equal(_pixel_order("random", empty, SIDE, 1), _pixel_order("random", empty, SIDE, 1))
    assert not np.array_equal(_pixel_order("random", empty, SIDE, 1), _pixel_order("random", empty, SIDE, 2))


def test_map_that_points_at_what_the_model_sees_deletes_and_inserts_soonest() -> None:
    (erased,) = run(map_of(ROW, COLUMN))
    for order in ORDERS:
        assert erased.deletion[order][0] == pytest.approx(1)
        assert erased.insertion[order][-1] == pytest.approx(1)
        assert erased.deletion[order][-1] == pytest.approx(erased.insertion[order][0], abs=1e-6)
    others = [order for order in ORDERS if order != "map"]
    assert all(
        area_under_curve(erased.deletion["map"]) < area_under_curve(erased.deletion[order]) - 0.05 for order in others
    )
    assert all(
        area_under_curve(erased.insertion["map"]) > area_under_curve(erased.insertion[order]) + 0.05 for order in others
    )
    # A tenth of the field is 321 pixels, and the patch of 64 with the slopes about it 256.
    assert erased.insertion["map"][SHARES.index(0.1)] == pytest.approx(1, abs=0.02)


def test_grade_0_and_empty_maps_are_left_out() -> None:
    assert run(map_of(ROW, COLUMN), output=0) == []
    assert run(np.zeros((1, 8, 8), np.float32)) == []


def test_areas_are_those_of_the_trapezoids() -> None:
    assert area_under_curve(np.full(len(SHARES), 0.25)) == pytest.approx(0.25)
    assert area_under_curve(np.array(SHARES)) == pytest.approx(0.5)
