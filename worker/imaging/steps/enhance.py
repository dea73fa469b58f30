"""Crop, resize and enhance the field of view as the model's recipe says."""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.gaussian_blur import gaussian_blur
from worker.imaging.photograph import Field, Photograph
from worker.imaging.recipe import Recipe
from worker.imaging.resize_cache import resize_crop


def enhance_field(photograph: Photograph, field: Field, recipe: Recipe) -> NDArray[np.uint8]:
    """Return the enhanced field, uint8 (S, S, 3) RGB, S = recipe.input_size_px.

    The crop is resized to a square, the background (a Gaussian blur) is subtracted, and pixels outside the circle are
    replaced, each only if the recipe asks for it.
    Source: Graham 2015, "Kaggle Diabetic Retinopathy Detection competition report".
    """
    top, bottom, left, right = field.crop_window(recipe)
    # Only the foreground: beyond it the dark background would be a step edge for the blur.
    rows, target_rows = _clip_to_foreground(top, bottom, (field.top, field.bottom), recipe.input_size_px)
    columns, target_columns = _clip_to_foreground(left, right, (field.left, field.right), recipe.input_size_px)
    height = _length(target_rows)
    # The height alone decides: the published training images were made this way.
    interpolation = cv2.INTER_AREA if _length(rows) > height else cv2.INTER_LINEAR
    image = resize_crop(
        photograph, rows, columns, height=height, width=_length(target_columns), interpolation=interpolation
    )
    if recipe.enhancement == "graham":
        # Before padding, whose edge would be a step for the blur.
        image = _subtract_background(image, recipe)
    if image.shape[:2] != (recipe.input_size_px, recipe.input_size_px):
        square = np.full((recipe.input_size_px, recipe.input_size_px, 3), recipe.outside, np.uint8)
        square[target_rows, target_columns] = image
        image = square
    return _cut_to_circle(image, recipe) if recipe.cut_to_circle else image


def _clip_to_foreground(start: int, stop: int, foreground: tuple[int, int], size_px: int) -> tuple[slice, slice]:
    """Clip a crop to the foreground along one axis. Returns the source slice and its slice of the square."""
    first, last = max(start, foreground[0]), min(stop, foreground[1])
    scale = size_px / (stop - start)
    to = round((first - start) * scale)
    return slice(first, last), slice(to, max(round((last - start) * scale), to + 1))


def _length(lines: slice) -> int:
    return int(lines.stop - lines.start)


def _subtract_background(image: NDArray[np.uint8], recipe: Recipe) -> NDArray[np.uint8]:
    background = gaussian_blur(image, recipe.input_size_px * recipe.sigma_fraction)
    enhanced = cv2.addWeighted(image, recipe.gain, background, -recipe.gain, recipe.offset)
    return enhanced.astype(np.uint8, copy=False)


def _cut_to_circle(image: NDArray[np.uint8], recipe: Recipe) -> NDArray[np.uint8]:
    # Ten times as fast as `np.where`.
    cut = np.full_like(image, recipe.outside)
    return np.asarray(cv2.copyTo(image, _circle(len(image), recipe.circle_radius_px), cut), np.uint8)


@cache
def _circle(size_px: int, radius_px: int) -> NDArray[np.uint8]:
    circle = np.zeros((size_px, size_px), np.uint8)
    cv2.circle(circle, (size_px // 2, size_px // 2), radius_px, 255, -1)
    circle.setflags(write=False)
    return circle
