"""Convolutions in 8 bits for OpenVINO: what they are shown and their kernels are rounded to 256 levels.

What lies between them stays in floats, and so do the first layers and the head (see `bundle.activation_ranges`).
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
from worker.model.engines.openvino_graph import Operands, build_features, float_operands

_LEVELS, _KERNEL_LEVELS = 256, 255
"""Zero is one of them: maps are never below it, kernels reach as far below as above."""
_LEAST_SHARE = 1e-3
"""Of the widest channel's divisor, so that a channel that was never lit divides by no zero."""


def int8_operands(ranges: ActivationRanges) -> Operands:
    """`Operands` whose maps and kernels are rounded, within these ranges.

    One scale for all channels of a map would leave few levels to faint channels. So each channel is first divided by a
    number that its kernel is multiplied by, which changes no result: the geometric mean of the channel's range and the
    inverse of its kernel's (Xiao et al. 2023, arXiv 2211.10438, with a strength of 0.5).
    """

    def operands(layer: str, maps: openvino.Node, kernel: NDArray[np.float32]) -> tuple[openvino.Node, openvino.Node]:
        if layer not in ranges:
            return float_operands(layer, maps, kernel)
        divisors = _divisors(ranges[layer], kernel)
        evened = ops.multiply(maps, ops.constant(1 / divisors[:, None, None]))
        highest = ops.constant(np.float32((ranges[layer] / divisors).max() or 1))
        zero = ops.constant(np.float32(0))
        kernel = kernel * divisors[:, None, None]
        reach = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True)
        low, high = ops.constant(-reach), ops.constant(reach)
        return (
            ops.fake_quantize(evened, zero, highest, zero, highest, _LEVELS),
            ops.fake_quantize(ops.constant(kernel), low, high, low, high, _KERNEL_LEVELS),
        )

    return operands


def measure_activation_ranges(
    bundle: Bundle, batches: Iterable[Sequence[ModelInput]]
) -> dict[str, NDArray[np.float32]]:
    """The most that each convolution is shown in these pictures, in float32. Raises ValueError as `predict` does."""
    program = OpenVinoExecutor(_build_range_graph(bundle), bundle.recipe.input_size_px, "f32")
    most: list[NDArray[np.float32]] = []
    for batch in batches:
        seen = [maxima.max(axis=0) for maxima in program.run(batch)]
        most = [np.maximum(one, other) for one, other in zip(most, seen, strict=True)] if most else seen
    return dict(zip(activation_range_shapes(), most, strict=True))


def _divisors(shown: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """One for each channel (C,), all above zero."""
    weighed = np.abs(kernel).max(axis=(0, 2, 3))
    divisors = np.sqrt(shown / np.maximum(weighed, np.finfo(np.float32).tiny))
    widest = divisors.max()
    return np.asarray(np.maximum(divisors, _LEAST_SHARE * widest) if widest > 0 else np.ones_like(divisors))


def _build_range_graph(bundle: Bundle) -> openvino.Model:
    """The same inputs; an output (N, C) for each layer of `activation_range_shapes`, in their order."""
    shown: dict[str, openvino.Node] = {}

    def operands(layer: str, maps: openvino.Node, kernel: NDArray[np.float32]) -> tuple[openvino.Node, openvino.Node]:
        shown[layer] = maps
        return float_operands(layer, maps, kernel)

    inputs, _ = build_features(bundle, operands)
    maxima = [ops.reduce_max(shown[layer], ops.constant([2, 3])) for layer in activation_range_shapes()]
    return openvino.Model(maxima, inputs, bundle.name)
