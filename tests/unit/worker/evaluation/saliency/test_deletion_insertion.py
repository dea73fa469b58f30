"""Deletion and insertion with a model of known output: the mean brightness of one patch."""

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
"""Cell of 8 x 8 pixels that determines the output of the model."""
PATCH = (slice(8 * ROW, 8 * ROW + 8), slice(8 * COLUMN, 8 * COLUMN + 8))


class PatchModel:
    """A model whose probabilities are the mean brightness of the patch."""

    def explain(self, images: Sequence[Any]) -> Explanations:
        values = np.array([image[PATCH].mean() / 255 for image in images], np.float32)
        probabilities = np.repeat(values[:, None], 5, axis=1)
        return Explanations(
            probabilities, np.ones(len(values), int), np.ones(len(values), int), np.zeros((len(values), 8, 8))
        )


def image() -> NDArray[np.uint8]:
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
        explainer, ["eye"], [image()], saliency, np.array([output]), on_progress=lambda: None
    )


def test_order_of_the_map_starts_at_its_maximum_and_has_each_pixel_of_the_field_once() -> None:
    positions = _pixel_order("map", map_of(ROW, COLUMN)[0], SIDE, 0)
    field = positions < 2
    count = int(field.sum())
    assert count == pytest.approx(np.pi * 32**2, rel=0.01)
    assert sorted(positions[field]) == pytest.approx([number / count for number in range(count)])
    # The four pixels about the middle of the cell share the maximum.
    assert set(zip(*np.nonzero(positions < 4 / count), strict=True)) == {(r, c) for r in (19, 20) for c in (43, 44)}


def test_order_of_the_map_is_that_of_the_overlay() -> None:
    # Two cells share the maximum: the cubic is highest between them, where a bilinear map is flat.
    shared = map_of(ROW, COLUMN)[0] + map_of(ROW, COLUMN - 1)[0]
    positions = _pixel_order("map", shared, SIDE, 0)
    first = set(zip(*np.nonzero(positions < 4 / (positions < 2).sum()), strict=True))
    assert first == {(r, c) for r in (19, 20) for c in (39, 40)}


def test_order_from_the_centre_goes_outwards_and_random_order_depends_on_the_seed() -> None:
    positions = _pixel_order("centre", np.zeros((8, 8), np.float32), SIDE, 0)
    assert positions[32, 32] < positions[32, 40] < positions[32, 60] < positions[0, 0] == 2
    empty = np.zeros((8, 8), np.float32)
    assert np.array_equal(_pixel_order("random", empty, SIDE, 1), _pixel_order("random", empty, SIDE, 1))
    assert not np.array_equal(_pixel_order("random", empty, SIDE, 1), _pixel_order("random", empty, SIDE, 2))


def test_faithful_map_has_the_best_deletion_and_insertion() -> None:
    (curves,) = run(map_of(ROW, COLUMN))
    for order in ORDERS:
        assert curves.deletion[order][0] == pytest.approx(1)
        assert curves.insertion[order][-1] == pytest.approx(1)
        assert curves.deletion[order][-1] == pytest.approx(curves.insertion[order][0], abs=1e-6)
    others = [order for order in ORDERS if order != "map"]
    assert all(
        area_under_curve(curves.deletion["map"]) < area_under_curve(curves.deletion[order]) - 0.05 for order in others
    )
    assert all(
        area_under_curve(curves.insertion["map"]) > area_under_curve(curves.insertion[order]) + 0.05 for order in others
    )
    # A tenth of the field is 321 pixels; the patch and its margin are 256.
    assert curves.insertion["map"][SHARES.index(0.1)] == pytest.approx(1, abs=0.02)


def test_output_0_and_empty_maps_are_skipped() -> None:
    assert run(map_of(ROW, COLUMN), output=0) == []
    assert run(np.zeros((1, 8, 8), np.float32)) == []


def test_area_uses_the_trapezoidal_rule() -> None:
    assert area_under_curve(np.full(len(SHARES), 0.25)) == pytest.approx(0.25)
    assert area_under_curve(np.array(SHARES)) == pytest.approx(0.5)
