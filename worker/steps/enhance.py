"""Turn the field into the picture that the model was trained on."""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.items import Field, Photograph
from worker.model.recipe import Recipe


def enhance(photograph: Photograph, field: Field, recipe: Recipe) -> NDArray[np.uint8]:
    """The field's window squashed to a square, its background subtracted, cut to the round field: as the recipe says.

    Returns uint8 (S, S, 3) RGB, S = recipe.input_size_px.
    Source: Graham 2015, "Kaggle Diabetic Retinopathy Detection competition report".
    """
    top, bottom, left, right = field.window(recipe)
    # No further than the lit box: where the camera cut the field off, the dark beyond it would pass for a step.
    rows, rows_seen = _visible(top, bottom, (field.top, field.bottom), recipe.input_size_px)
    columns, columns_seen = _visible(left, right, (field.left, field.right), recipe.input_size_px)
    picture = _resize(photograph.rgb[rows, columns], _length(rows_seen), _length(columns_seen))
    if recipe.enhancement == "graham":
        # Before the padding, whose edge would be a step.
        picture = _subtract_background(picture, recipe)
    if picture.shape[:2] != (recipe.input_size_px, recipe.input_size_px):
        square = np.full((recipe.input_size_px, recipe.input_size_px, 3), recipe.outside, np.uint8)
        square[rows_seen, columns_seen] = picture
        picture = square
    return _cut_to_circle(picture, recipe) if recipe.cut_to_circle else picture


def _visible(start: int, stop: int, lit: tuple[int, int], size_px: int) -> tuple[slice, slice]:
    """What of a window from `start` to `stop` lies in the lit lines, and where it comes to lie in the square."""
    first, last = max(start, lit[0]), min(stop, lit[1])
    scale = size_px / (stop - start)
    to = round((first - start) * scale)
    return slice(first, last), slice(to, max(round((last - start) * scale), to + 1))


def _length(part: slice) -> int:
    return int(part.stop - part.start)


def _resize(crop: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    # The height alone decides, as it did for the training pictures.
    interpolation = cv2.INTER_AREA if crop.shape[0] > height else cv2.INTER_LINEAR
    return cv2.resize(crop, (width, height), interpolation=interpolation).astype(np.uint8, copy=False)


def _subtract_background(picture: NDArray[np.uint8], recipe: Recipe) -> NDArray[np.uint8]:
    background = cv2.GaussianBlur(picture, (0, 0), recipe.input_size_px * recipe.sigma_fraction)
    enhanced = cv2.addWeighted(picture, recipe.gain, background, -recipe.gain, recipe.offset)
    return enhanced.astype(np.uint8, copy=False)


def _cut_to_circle(picture: NDArray[np.uint8], recipe: Recipe) -> NDArray[np.uint8]:
    size_px = len(picture)
    circle = np.zeros((size_px, size_px), np.uint8)
    cv2.circle(circle, (size_px // 2, size_px // 2), recipe.circle_radius_px, 1, -1)
    return np.where(circle[..., None] > 0, picture, np.uint8(recipe.outside))
