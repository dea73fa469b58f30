"""Class activation maps (Zhou et al. 2016, arXiv 1512.04150) of all outputs, and saliency from them; NumPy only.

With the last feature map A (h, w, C), the logit of output k is the mean over the pixels of the map sum_c W[c, k] A_c,
plus a bias. A weighted average of logits is therefore the mean of the weighted average of their maps, and the positive
part of that map is its Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ClassMaps:
    """Logits (N, 5) and signed maps (N, 5, h, w) of N images, float32.

    The mean of a map is the logit minus the head's bias. projections: the pooled features along the directions of the
    network's feature space, (N, K); None for a network without one.
    """

    logits: Array
    maps: Array
    projections: Array | None = None


def explain(
    class_maps: ClassMaps, thresholds: Sequence[float], explained_outputs: tuple[int, int]
) -> tuple[Array, Array, Array]:
    """Return probabilities (N, 5), saliency (N, h, w) and evidence (N,) in logits of each image's explained output.

    explained_outputs: as for `find_explained_outputs`. Saliency and evidence are those of `to_saliency`.
    """
    probabilities = sigmoid(class_maps.logits)
    outputs = find_explained_outputs(probabilities, thresholds, explained_outputs)
    return probabilities, *to_saliency(class_maps.maps, outputs)


def find_highest_passed(probabilities: Array, thresholds: Sequence[float]) -> NDArray[np.int64]:
    """Return the highest output above its threshold for each row of probabilities (N, 5); 0 if no output passes."""
    passed = probabilities > np.asarray(thresholds, np.float32)
    return np.asarray(np.where(passed, np.arange(passed.shape[1]), 0).max(axis=1), np.int64)


def find_explained_outputs(
    probabilities: Array, thresholds: Sequence[float], explained_outputs: tuple[int, int]
) -> NDArray[np.int64]:
    """Return the highest output passed of each row, clipped to the lowest and highest output that may be explained."""
    return np.clip(find_highest_passed(probabilities, thresholds), *explained_outputs)


def to_saliency(maps: Array, outputs: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return the positive part of each image's map for its output, divided by its maximum, and that maximum.

    maps: signed, (N, 5, h, w). outputs: (N,). Returns the saliency (N, h, w) with the maximum 1, or zero everywhere if
    there is no evidence for the output, and the evidence (N,) in logits.
    """
    positive = np.maximum(maps[np.arange(len(outputs)), outputs], 0)
    most = positive.max(axis=(1, 2))
    return np.asarray(positive / np.where(most > 0, most, 1)[:, None, None], np.float32), most


def measure_evidence_scale(evidence: Sequence[float]) -> float | None:
    """Return the evidence in logits that all maps of a model show at full strength: the median of referable images.

    evidence: of images that the model refers, so that a map is as strong as that of a typical eye with referable DR.
    None if no image has any.
    """
    found = [one for one in evidence if one > 0]
    return float(f"{np.median(found):.3g}") if found else None


def sigmoid(logits: Array) -> Array:
    """Return the logistic sigmoid, in a form that does not overflow."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * logits), np.float32)


def upsample_bilinear(maps: Array, height: int, width: int) -> Array:
    """Resize maps (N, 5, h, w) to (N, 5, height, width) by bilinear interpolation between pixel centres."""
    if maps.shape[2:] == (height, width):
        return maps
    down, across = _bilinear_matrix(maps.shape[2], height), _bilinear_matrix(maps.shape[3], width)
    return np.asarray(np.einsum("yh,nkhw,xw->nkyx", down, maps, across, optimize=True), np.float32)


def _bilinear_matrix(size: int, wanted: int) -> Array:
    """Return the weights (wanted, size) of the two nearest pixels; edge pixels are repeated beyond the border."""
    places = np.clip((np.arange(wanted) + 0.5) * size / wanted - 0.5, 0, size - 1)
    return np.asarray(np.maximum(1 - np.abs(places[:, None] - np.arange(size)), 0), np.float32)
