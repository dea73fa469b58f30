"""Find the field of view: the bounding box of the foreground and the border of the field."""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.core.errors import Ungradable
from worker.imaging.border_fit import fit_border
from worker.imaging.photograph import Field, Photograph
from worker.imaging.recipe import Recipe

MIN_FOREGROUND_LINES = 20
"""Minimum number of foreground rows and of foreground columns; the training images were cropped by the same rule."""


def find_field(photograph: Photograph, recipe: Recipe) -> Field:
    """Return the bounding box and the border of the field.

    The box holds the rows and columns with more than `recipe.lit_share` foreground pixels, or the whole photograph if
    the recipe does not crop. The border is a circle, or an axis-aligned ellipse if the photograph was resized
    anisotropically; it may extend past the photograph.
    Raises Ungradable(no_field) if the foreground is too small or has no round border.
    """
    brightness = _brightest_channel(photograph.rgb)
    brightest = int(brightness.max())
    threshold = max(recipe.lit_floor, int(recipe.lit_fraction * brightest))
    foreground = (brightness > threshold).view(np.uint8)
    rows, columns = (np.flatnonzero(_foreground_share(axis, foreground) > recipe.lit_share) for axis in (1, 0))
    if len(rows) < MIN_FOREGROUND_LINES or len(columns) < MIN_FOREGROUND_LINES:
        found = f"{len(rows)} foreground rows and {len(columns)} columns, brightest value {brightest}"
        raise Ungradable(f"no field of view: {found}; minimum {MIN_FOREGROUND_LINES} of each", code="no_field")
    border = fit_border(brightness, threshold)
    if recipe.crop == "none":
        return Field(0, foreground.shape[0], 0, foreground.shape[1], border)
    return Field(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1, border)


def _foreground_share(axis: int, foreground: NDArray[np.uint8]) -> NDArray[np.float64]:
    # Five times as fast as NumPy's mean, with the same bits.
    counts: NDArray[np.int32] = np.asarray(cv2.reduce(foreground, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S), np.int32)
    return np.asarray(counts.ravel() / foreground.shape[axis], np.float64)


def _brightest_channel(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # 30 times as fast as `rgb.max(axis=2)`, and 4 times as fast as a split that allocates its arrays.
    red, green, blue = cv2.split(rgb, [np.empty(rgb.shape[:2], np.uint8) for _ in range(3)])
    return cv2.max(cv2.max(red, green), blue).astype(np.uint8, copy=False)
