"""Turn the picture a little: a retina has no upright, so grade and map should turn with it and stay what they were."""

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
"""In degrees."""


@dataclass(frozen=True, slots=True)
class RotationResult:
    """What each of N pictures became, turned by an angle.

    likeness: of the map, turned back, with the upright picture's. change: of the explained output's probability,
    without its sign. same_grade: whether the highest output that is passed stayed.
    """

    degrees: float
    likeness: NDArray[np.float64]
    change: NDArray[np.float64]
    same_grade: NDArray[np.bool_]


def measure_rotation(
    explainer: Explainer, pictures: Sequence[ModelInput], upright: Explanations, degrees: float
) -> RotationResult:
    """upright: what the model saw in the pictures as they are."""
    recipes = (explainer.model.recipe, *explainer.model.extra_recipes)
    turned = [_rotate(picture, degrees, recipes) for picture in pictures]
    found = explainer.explain(turned, upright.explained)
    rows, outputs = np.arange(len(pictures)), upright.explained
    change = np.abs(found.probabilities[rows, outputs] - upright.probabilities[rows, outputs])
    back = [rotate(to_grid(one), -degrees, reshape=False, order=1, mode="nearest") for one in found.saliency]
    likeness = [rank_correlation(to_grid(one), other) for one, other in zip(upright.saliency, back, strict=True)]
    return RotationResult(degrees, np.array(likeness), change.astype(np.float64), found.passed == upright.passed)


def _rotate(picture: ModelInput, degrees: float, recipes: Sequence[Recipe]) -> ModelInput:
    pictures = picture if isinstance(picture, tuple) else (picture,)
    turned = tuple(
        rotate(one, degrees, reshape=False, order=1, mode="constant", cval=recipe.outside)
        for one, recipe in zip(pictures, recipes, strict=True)
    )
    return turned if len(turned) > 1 else turned[0]
