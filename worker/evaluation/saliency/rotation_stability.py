"""Rotation stability: a small rotation of the image should rotate the map with it and leave the grade unchanged."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import rotate

from worker.core.predictions import ModelInput
from worker.evaluation.saliency.explainer import Explainer, Explanations
from worker.evaluation.saliency.rank_correlation import rank_correlation, to_grid
from worker.imaging.recipe import Recipe

ANGLES_DEG = (-15.0, -10.0, -5.0, 5.0, 10.0, 15.0)


@dataclass(frozen=True, slots=True)
class RotationResult:
    """Results of N images rotated by an angle.

    rank_correlations: of the original map with the map of the rotated image, rotated back. probability_changes:
    absolute change of the explained output's probability. same_grade: whether the highest output passed is the same.
    """

    degrees: float
    rank_correlations: NDArray[np.float64]
    probability_changes: NDArray[np.float64]
    same_grade: NDArray[np.bool_]


def measure_rotation(
    explainer: Explainer, images: Sequence[ModelInput], original: Explanations, degrees: float
) -> RotationResult:
    """Rotate all images by an angle and compare with the explanations of the original images."""
    recipes = (explainer.model.recipe, *explainer.model.extra_recipes)
    rotated = [_rotate(image, degrees, recipes) for image in images]
    found = explainer.explain(rotated, original.explained)
    rows, outputs = np.arange(len(images)), original.explained
    changes = np.abs(found.probabilities[rows, outputs] - original.probabilities[rows, outputs])
    back = [rotate(to_grid(one), -degrees, reshape=False, order=1, mode="nearest") for one in found.saliency]
    correlations = [rank_correlation(to_grid(one), other) for one, other in zip(original.saliency, back, strict=True)]
    return RotationResult(degrees, np.array(correlations), changes.astype(np.float64), found.passed == original.passed)


def _rotate(image: ModelInput, degrees: float, recipes: Sequence[Recipe]) -> ModelInput:
    inputs = image if isinstance(image, tuple) else (image,)
    rotated = tuple(
        rotate(one, degrees, reshape=False, order=1, mode="constant", cval=recipe.outside)
        for one, recipe in zip(inputs, recipes, strict=True)
    )
    return rotated if len(rotated) > 1 else rotated[0]
