"""Signed maps of what speaks for and against each output, and what they say of the one to explain; NumPy only.

At the last feature map A (h, w, C) the logit of output k is the mean over the pixels of the map sum_c W[c, k] A_c, plus
a bias. Averages of logits are therefore means of averaged maps, and the rectified map of the average is its Grad-CAM.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_SHARPNESS = -0.75
"""Slope of the cubic at a neighbour's middle."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Of N images: logits (N, 5) and maps (N, 5, h, w), float32; a map's mean is its logit less the head's bias."""

    logits: Array
    maps: Array


def explain(evidence: Evidence, thresholds: Sequence[float], within: tuple[int, int]) -> tuple[Array, Array]:
    """Probabilities (N, 5), and saliency (N, h, w) in [0, 1] of the output that `find_explained` names for each image.

    The saliency's maximum is 1, or it is zero everywhere where nothing speaks for the output.
    """
    probabilities = to_probabilities(evidence.logits)
    return probabilities, rectify(evidence.maps, find_explained(probabilities, thresholds, within))


def find_passed(probabilities: Array, thresholds: Sequence[float]) -> NDArray[np.int64]:
    """Of each row (N, 5) the highest output above its threshold, 0 where none is."""
    passed = probabilities > np.asarray(thresholds, np.float32)
    return np.asarray(np.where(passed, np.arange(passed.shape[1]), 0).max(axis=1), np.int64)


def find_explained(probabilities: Array, thresholds: Sequence[float], within: tuple[int, int]) -> NDArray[np.int64]:
    """The same brought within the lowest and the highest output that may be explained."""
    return np.clip(find_passed(probabilities, thresholds), *within)


def rectify(maps: Array, outputs: NDArray[np.int64]) -> Array:
    """What speaks for each image's output, (N, h, w) in [0, 1], of signed maps (N, 5, h, w)."""
    positive = np.maximum(maps[np.arange(len(outputs)), outputs], 0)
    most = positive.max(axis=(1, 2), keepdims=True)
    return np.asarray(positive / np.where(most > 0, most, 1), np.float32)


def to_probabilities(logits: Array) -> Array:
    """The sigmoid, which overflows nowhere in this form."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * logits), np.float32)


def enlarge(maps: Array, height: int, width: int) -> Array:
    """Maps (N, 5, h, w) on a finer grid, bilinearly between the middles of the pixels."""
    if maps.shape[2:] == (height, width):
        return maps
    down, across = _interpolation(maps.shape[2], height), _interpolation(maps.shape[3], width)
    return np.asarray(np.einsum("yh,nkhw,xw->nkyx", down, maps, across, optimize=True), np.float32)


def show(saliency: Array, height: int, width: int) -> Array:
    """A map (h, w) as people see it, (height, width) in [0, 1]: by cubic convolution (Keys 1981, with OpenCV's -0.75).

    Between cells the curve may rise above them: evidence that two cells share peaks between them, not in the middle of
    one. What swings below zero is cut off, and the highest is 1 again.
    """
    down, across = _cubic(saliency.shape[0], height), _cubic(saliency.shape[1], width)
    positive = np.maximum(down @ saliency @ across.T, 0)
    return np.asarray(positive / (positive.max() or 1), np.float32)


def _cubic(size: int, wanted: int) -> Array:
    """(wanted, size): the weights of the four nearest pixels; the outermost go on beyond the edge."""
    places = (np.arange(wanted) + 0.5) * size / wanted - 0.5
    before, weights = np.floor(places).astype(np.int64), np.zeros((wanted, size), np.float32)
    for tap in range(-1, 3):
        far = np.abs(places - (before + tap))
        near = _SHARPNESS * (far**3 - 5 * far**2 + 8 * far - 4)
        weight = np.where(far <= 1, (_SHARPNESS + 2) * far**3 - (_SHARPNESS + 3) * far**2 + 1, near)
        np.add.at(weights, (np.arange(wanted), np.clip(before + tap, 0, size - 1)), weight)
    return weights


def _interpolation(size: int, wanted: int) -> Array:
    """(wanted, size): the weights of the two nearest pixels; beyond the outermost middles, of that one alone."""
    places = np.clip((np.arange(wanted) + 0.5) * size / wanted - 0.5, 0, size - 1)
    return np.asarray(np.maximum(1 - np.abs(places[:, None] - np.arange(size)), 0), np.float32)
