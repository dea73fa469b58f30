"""The layer that report and console lay over a photograph looks like the overlay of a worker."""

import re

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from worker.imaging.colour_maps import NOTEBOOK_COLOUR_MAP, WARM_COLOUR_MAP
from worker.imaging.contours import CONTOURS, PATH_SIDE
from worker.imaging.photograph import PreparedImage
from worker.imaging.saliency_layer import NO_LAYER, TINT_PX, render_layer, unpack_saliency
from worker.imaging.saliency_levels import place_on_canvas
from worker.imaging.steps.overlay import render_saliency_layer

SIDE = 900


@pytest.fixture
def prepared() -> PreparedImage:
    """A round field whose crop for the model reaches past the canvas."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    return PreparedImage(
        np.zeros((32, 32, 3), np.uint8), np.zeros((SIDE, SIDE, 3), np.uint8), np.hypot(x, y) < 430, (-40, 860, 30, 930)
    )


@pytest.fixture
def saliency() -> NDArray[np.float32]:
    rows, columns = np.mgrid[:9, :9]
    return np.exp(-((rows - 3) ** 2 + (columns - 5) ** 2) / 6).astype(np.float32)


def draw_path(path: str, side: int) -> NDArray[np.uint8]:
    """Fill the areas of a path, on `side` x `side` pixels."""
    picture = np.zeros((side, side), np.uint8)
    for line in re.findall("M([^z]+)z", path):
        steps = np.array(re.findall(r"-?\d+", line), float).reshape(-1, 2)
        cv2.fillPoly(picture, [np.rint(steps.cumsum(axis=0) * side / PATH_SIDE).astype(np.int32)], 1)
    return picture


def test_tint_is_that_of_the_overlay(prepared: PreparedImage, saliency: NDArray[np.float32]) -> None:
    layer = render_layer(prepared, saliency, WARM_COLOUR_MAP, strength=0.9)
    assert layer.tint is not None
    tint = cv2.cvtColor(cv2.imdecode(np.frombuffer(layer.tint, np.uint8), -1), cv2.COLOR_BGRA2RGBA)
    whole = render_saliency_layer(prepared, saliency, WARM_COLOUR_MAP, strength=0.9, with_contours=False)
    expected = cv2.resize(whole, (TINT_PX, TINT_PX), interpolation=cv2.INTER_AREA)
    assert np.abs(tint[..., 3].astype(int) - expected[..., 3]).max() < 8
    strong = expected[..., 3] > 40
    assert np.abs(tint[strong].astype(int) - expected[strong]).mean() < 6


def test_contours_enclose_the_levels(prepared: PreparedImage, saliency: NDArray[np.float32]) -> None:
    layer = render_layer(prepared, saliency, WARM_COLOUR_MAP, strength=0.75)
    levels = place_on_canvas(saliency, prepared, 0.75) * prepared.field_mask
    area, drawn = levels > CONTOURS[0] * 255, draw_path(layer.contours, SIDE) > 0
    assert (area & drawn).sum() / (area | drawn).sum() > 0.97
    assert layer.contours.count("M") == 1  # none at 80 %


def test_weak_or_empty_map_has_no_layer(prepared: PreparedImage, saliency: NDArray[np.float32]) -> None:
    assert render_layer(prepared, saliency, WARM_COLOUR_MAP, strength=0.2) == NO_LAYER
    assert render_layer(prepared, 0 * saliency, WARM_COLOUR_MAP, strength=1) == NO_LAYER
    notebook = render_layer(prepared, saliency, NOTEBOOK_COLOUR_MAP, strength=0.2)
    assert (notebook.tint is not None, notebook.contours) == (True, "")


def test_map_of_the_ledger_is_unpacked() -> None:
    stored = np.arange(9, dtype=np.float16)
    assert unpack_saliency(stored.tobytes()).tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert not unpack_saliency(None).any()
