"""INT8 convolutions for OpenVINO: their activations and kernels are quantised to 256 levels.

All other operations stay in floating point, and so do the first layers and the head (see `bundle.activation_ranges`).
"""

from collections.abc import Iterable, Sequence

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops

from worker.core.predictions import ModelInput
from worker.model.bundle.activation_ranges import ActivationRanges, activation_range_shapes
from worker.model.bundle.bundle import Bundle
from worker.model.engines.openvino_executor import OpenVinoExecutor
from worker.model.engines.openvino_graph import build_features
from worker.model.engines.openvino_operands import Operands, float_operands

_LEVELS, _KERNEL_LEVELS = 256, 255
"""Zero is one of the levels: activations are never negative, and a kernel's range is symmetric."""
_MIN_RELATIVE_DIVISOR = 1e-3
"""Lower limit of a divisor relative to the largest one, so that a channel that was always 0 has no divisor of 0."""


def int8_operands(ranges: ActivationRanges) -> Operands:
    """Return `Operands` that quantise the layers with ranges.

    One scale for all channels of an activation would leave few levels to channels with a small range. Therefore each
    channel is divided by a number by which its kernel is multiplied, which leaves the result unchanged: the geometric
    mean of the channel's range and the inverse of its kernel's range.
    Source: Xiao et al. 2023, arXiv 2211.10438, with a migration strength of 0.5.
    """

    def operands(layer: str, maps: openvino.Node, kernel: NDArray[np.float32]) -> tuple[openvino.Node, openvino.Node]:
        if layer not in ranges:
            return float_operands(layer, maps, kernel)
        divisors = _divisors(ranges[layer], kernel)
        smoothed = ops.multiply(maps, ops.constant(1 / divisors[:, None, None]))
        highest = ops.constant(np.float32((ranges[layer] / divisors).max() or 1))
        zero = ops.constant(np.float32(0))
        kernel = kernel * divisors[:, None, None]
        limit = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True)
        low, high = ops.constant(-limit), ops.constant(limit)
        return (
            ops.fake_quantize(smoothed, zero, highest, zero, highest, _LEVELS),
            ops.fake_quantize(ops.constant(kernel), low, high, low, high, _KERNEL_LEVELS),
        )

    return operands


def measure_activation_ranges(
    bundle: Bundle, batches: Iterable[Sequence[ModelInput]]
) -> dict[str, NDArray[np.float32]]:
    """Return the largest activation of each channel of each convolution over some batches, measured in float32.

    Raises ValueError as `Engine.predict` does.
    """
    executor = OpenVinoExecutor(_build_range_graph(bundle), bundle.recipe.input_size_px, "f32")
    maxima: list[NDArray[np.float32]] = []
    for batch in batches:
        batch_maxima = [activations.max(axis=0) for activations in executor.run(batch)]
        maxima = [np.maximum(*pair) for pair in zip(maxima, batch_maxima, strict=True)] if maxima else batch_maxima
    return dict(zip(activation_range_shapes(), maxima, strict=True))


def _divisors(ranges: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the divisor of each channel (C,), all above zero."""
    kernel_ranges = np.abs(kernel).max(axis=(0, 2, 3))
    divisors = np.sqrt(ranges / np.maximum(kernel_ranges, np.finfo(np.float32).tiny))
    largest = divisors.max()
    return np.asarray(np.maximum(divisors, _MIN_RELATIVE_DIVISOR * largest) if largest > 0 else np.ones_like(divisors))


def _build_range_graph(bundle: Bundle) -> openvino.Model:
    """Return a graph with the model's inputs, and an output (N, C) for each layer of `activation_range_shapes`."""
    activations: dict[str, openvino.Node] = {}

    def operands(layer: str, maps: openvino.Node, kernel: NDArray[np.float32]) -> tuple[openvino.Node, openvino.Node]:
        activations[layer] = maps
        return float_operands(layer, maps, kernel)

    inputs, _ = build_features(bundle, operands)
    maxima = [ops.reduce_max(activations[layer], ops.constant([2, 3])) for layer in activation_range_shapes()]
    return openvino.Model(maxima, inputs, bundle.name)
