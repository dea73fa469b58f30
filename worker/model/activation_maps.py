"""Signed maps of what speaks for and against each output, and what they say of the one to explain; NumPy only.

At the last feature map A (h, w, C) the logit of output k is the mean over the pixels of the map sum_c W[c, k] A_c, plus
a bias. Averages of logits are therefore means of averaged maps, and the rectified map of the average is its Grad-CAM.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


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


def upsample_bilinear(maps: Array, height: int, width: int) -> Array:
    """Resize maps (N, 5, h, w) to (N, 5, height, width) by bilinear interpolation between pixel centres."""
    if maps.shape[2:] == (height, width):
        return maps
    down, across = _interpolation(maps.shape[2], height), _interpolation(maps.shape[3], width)
    return np.asarray(np.einsum("yh,nkhw,xw->nkyx", down, maps, across, optimize=True), np.float32)


def _interpolation(size: int, wanted: int) -> Array:
    """(wanted, size): the weights of the two nearest pixels; beyond the outermost middles, of that one alone."""
    places = np.clip((np.arange(wanted) + 0.5) * size / wanted - 0.5, 0, size - 1)
    return np.asarray(np.maximum(1 - np.abs(places[:, None] - np.arange(size)), 0), np.float32)
