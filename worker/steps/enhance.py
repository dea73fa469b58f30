"""Turn the field into the picture that the model was trained on."""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.items import Field, Photograph
from worker.model.recipe import Recipe


def enhance(photograph: Photograph, field: Field, recipe: Recipe) -> NDArray[np.uint8]:
    """The field's box squashed to a square, its background subtracted, cut to the round field: as the recipe says.

    Returns uint8 (S, S, 3) RGB, S = recipe.input_size_px.
    Source: Graham 2015, "Kaggle Diabetic Retinopathy Detection competition report".
    """
    crop = photograph.rgb[field.top : field.bottom, field.left : field.right]
    picture = _resize(crop, recipe.input_size_px)
    if recipe.enhancement == "graham":
        picture = _subtract_background(picture, recipe)
    return _cut_to_circle(picture, recipe) if recipe.cut_to_circle else picture


def _resize(crop: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    # The height alone decides, as it did for the training pictures.
    interpolation = cv2.INTER_AREA if crop.shape[0] > size_px else cv2.INTER_LINEAR
    return cv2.resize(crop, (size_px, size_px), interpolation=interpolation).astype(np.uint8, copy=False)


def _subtract_background(picture: NDArray[np.uint8], recipe: Recipe) -> NDArray[np.uint8]:
    background = cv2.GaussianBlur(picture, (0, 0), recipe.input_size_px * recipe.sigma_fraction)
    enhanced = cv2.addWeighted(picture, recipe.gain, background, -recipe.gain, recipe.offset)
    return enhanced.astype(np.uint8, copy=False)


def _cut_to_circle(picture: NDArray[np.uint8], recipe: Recipe) -> NDArray[np.uint8]:
    size_px = len(picture)
    circle = np.zeros((size_px, size_px), np.uint8)
    cv2.circle(circle, (size_px // 2, size_px // 2), recipe.circle_radius_px, 1, -1)
    return np.where(circle[..., None] > 0, picture, np.uint8(recipe.outside))
