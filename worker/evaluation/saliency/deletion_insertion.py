"""Deletion and insertion (Petsiuk et al. 2018, arXiv 1806.07421): does the grade depend on what a map highlights?

Deletion blurs the pixels of an image, those with the highest saliency first; a faithful map makes the probability of
the explained output fall early. Insertion starts with the blurred image and restores those pixels first.
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
"""Shares of the inscribed circle's pixels that are blurred or restored."""
BLUR = 1 / 16
"""Standard deviation of the blur as a fraction of the side; it removes every lesion."""
RANDOM_CELLS = 8
"""Cells per side of a random order, which is as coarse as a map."""

Order = Literal["map", "centre", "random"]
ORDERS: tuple[Order, ...] = ("map", "centre", "random")

Pixels = NDArray[np.uint8] | NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PerturbationCurves:
    """Probabilities of one image's explained output, (len(SHARES),) for each order of pixels."""

    name: str
    deletion: dict[Order, NDArray[np.float64]]
    insertion: dict[Order, NDArray[np.float64]]


def measure_deletion_insertion(
    explainer: Explainer,
    names: Sequence[str],
    images: Sequence[ModelInput],
    saliency: NDArray[np.float32],
    outputs: NDArray[np.int64],
    *,
    on_progress: Callable[[], object],
) -> list[PerturbationCurves]:
    """Measure each image whose explained output is above 0 and whose map is not empty.

    saliency: (N, h, w). outputs: int (N,), the explained outputs; output 0 is true of every image. on_progress: called
    after each image.
    """
    curves = []
    for name, image, image_saliency, output in zip(names, images, saliency, outputs.tolist(), strict=True):
        if output > 0 and image_saliency.any():
            curves.append(_measure_one(explainer, name, image, image_saliency, output))
        on_progress()
    return curves


def area_under_curve(curve: NDArray[np.float64]) -> float:
    """Return the area under a curve over SHARES, in [0, 1]."""
    return float(np.trapezoid(curve, SHARES))


def _measure_one(
    explainer: Explainer, name: str, image: ModelInput, saliency: NDArray[np.float32], output: int
) -> PerturbationCurves:
    seed = zlib.crc32(name.encode())
    inputs = image if isinstance(image, tuple) else (image,)
    blurred = tuple(_blur(one) for one in inputs)
    variants: list[ModelInput] = []
    for order in ORDERS:
        positions = [_pixel_order(order, saliency, len(one), seed) for one in inputs]
        for share in SHARES:
            done = [position < share for position in positions]
            variants.append(_mix(blurred, inputs, done))
            variants.append(_mix(inputs, blurred, done))
    probabilities = (
        explainer.explain(variants).probabilities[:, output].astype(np.float64).reshape(len(ORDERS), len(SHARES), 2)
    )
    return PerturbationCurves(
        name,
        deletion={order: probabilities[row, :, 0] for row, order in enumerate(ORDERS)},
        insertion={order: probabilities[row, :, 1] for row, order in enumerate(ORDERS)},
    )


def _pixel_order(order: Order, saliency: NDArray[np.float32], side: int, seed: int) -> NDArray[np.float64]:
    """Return the position of each pixel in the order, (S, S): in [0, 1) within the inscribed circle, 2 outside it.

    Pixels of equal rank are in random order.
    """
    random = np.random.default_rng(seed)
    axis = np.arange(side) - (side - 1) / 2
    distance = np.hypot(axis[:, None], axis[None, :])
    if order == "map":
        height = upsample_saliency(saliency, side, side)
    elif order == "centre":
        height = -distance.astype(np.float32)
    else:
        height = upsample_saliency(random.random((RANDOM_CELLS, RANDOM_CELLS)).astype(np.float32), side, side)
    field = distance <= side / 2
    sequence = np.lexsort((random.random(int(field.sum())), -height[field]))
    positions = np.full((side, side), 2.0)
    ranks = np.empty(len(sequence))
    ranks[sequence] = np.arange(len(sequence)) / len(sequence)
    positions[field] = ranks
    return positions


def _blur(image: Pixels) -> Pixels:
    sigma = BLUR * len(image)
    blurred: Pixels = gaussian_filter(image.astype(np.float32), (sigma, sigma, 0)).astype(image.dtype)
    return blurred


def _mix(first: Sequence[Pixels], second: Sequence[Pixels], masks: Sequence[NDArray[np.bool_]]) -> ModelInput:
    """Take the pixels of `first` where the mask is true and of `second` elsewhere, for each input of an image."""
    mixed = tuple(np.where(mask[..., None], one, other) for one, other, mask in zip(first, second, masks, strict=True))
    return mixed if len(mixed) > 1 else mixed[0]
