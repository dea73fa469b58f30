"""Deletion and insertion (Petsiuk et al. 2018, arXiv 1806.07421): does the grade hang on what a map points at?

Deletion blurs the picture where the map is highest first; a map that tells the truth makes the probability of the
explained output fall soon. Insertion begins with the blurred picture and brings the highest places back first.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from worker.core.predictions import ModelInput
from worker.evaluation.saliency.explainer import Explainer
from worker.imaging.upsample import upsample_saliency

SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
"""Of the inscribed circle's pixels that are blurred, or brought back."""
BLUR = 1 / 16
"""Standard deviation over the picture's side: no lesion is left."""
RANDOM_CELLS = 8
"""A random order is one of cells as coarse as a map's, not of pixels."""

Order = Literal["map", "centre", "random"]
ORDERS: tuple[Order, ...] = ("map", "centre", "random")

Picture = NDArray[np.uint8] | NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PerturbationCurves:
    """Probabilities of one image's explained output at each of SHARES, by order."""

    name: str
    deletion: dict[Order, NDArray[np.float64]]
    insertion: dict[Order, NDArray[np.float64]]


def measure_deletion_insertion(
    explainer: Explainer,
    names: Sequence[str],
    pictures: Sequence[ModelInput],
    saliency: NDArray[np.float32],
    outputs: NDArray[np.int64],
    *,
    on_progress: Callable[[], object],
) -> list[PerturbationCurves]:
    """Of each picture that passed an output above 0, which every eye passes, and whose map is not empty.

    saliency: (N, h, w). outputs: (N,), explained ones. `on_progress` is called after each picture.
    """
    erased = []
    for name, picture, map_, output in zip(names, pictures, saliency, outputs.tolist(), strict=True):
        if output > 0 and map_.any():
            erased.append(_measure_one(explainer, name, picture, map_, output))
        on_progress()
    return erased


def area_under_curve(curve: NDArray[np.float64]) -> float:
    """Under a curve over SHARES, in [0, 1]."""
    return float(np.trapezoid(curve, SHARES))


def _measure_one(
    explainer: Explainer, name: str, picture: ModelInput, saliency: NDArray[np.float32], output: int
) -> PerturbationCurves:
    seed = zlib.crc32(name.encode())
    whole = picture if isinstance(picture, tuple) else (picture,)
    blurred = tuple(_blur(one) for one in whole)
    variants: list[ModelInput] = []
    for order in ORDERS:
        turns = [_pixel_order(order, saliency, len(one), seed) for one in whole]
        for share in SHARES:
            gone = [turn < share for turn in turns]
            variants.append(_mix(blurred, whole, gone))
            variants.append(_mix(whole, blurred, gone))
    found = explainer.explain(variants).probabilities[:, output].astype(np.float64).reshape(len(ORDERS), len(SHARES), 2)
    return PerturbationCurves(
        name,
        deletion={order: found[row, :, 0] for row, order in enumerate(ORDERS)},
        insertion={order: found[row, :, 1] for row, order in enumerate(ORDERS)},
    )


def _pixel_order(order: Order, saliency: NDArray[np.float32], side: int, seed: int) -> NDArray[np.float64]:
    """When each pixel's turn comes, (S, S): from 0, the first, to below 1 within the inscribed circle; 2 beyond it.

    Equals come in a random order.
    """
    random = np.random.default_rng(seed)
    places = np.arange(side) - (side - 1) / 2
    distance = np.hypot(places[:, None], places[None, :])
    if order == "map":
        height = upsample_saliency(saliency, side, side)
    elif order == "centre":
        height = -distance.astype(np.float32)
    else:
        height = upsample_saliency(random.random((RANDOM_CELLS, RANDOM_CELLS)).astype(np.float32), side, side)
    field = distance <= side / 2
    sequence = np.lexsort((random.random(int(field.sum())), -height[field]))
    turns = np.full((side, side), 2.0)
    ranks = np.empty(len(sequence))
    ranks[sequence] = np.arange(len(sequence)) / len(sequence)
    turns[field] = ranks
    return turns


def _blur(picture: Picture) -> Picture:
    sigma = BLUR * len(picture)
    blurred: Picture = gaussian_filter(picture.astype(np.float32), (sigma, sigma, 0)).astype(picture.dtype)
    return blurred


def _mix(there: Sequence[Picture], elsewhere: Sequence[Picture], places: Sequence[NDArray[np.bool_]]) -> ModelInput:
    """`there` at the places, `elsewhere` at all others, for each picture of an image."""
    mixed = tuple(
        np.where(place[..., None], one, other) for one, other, place in zip(there, elsewhere, places, strict=True)
    )
    return mixed if len(mixed) > 1 else mixed[0]
