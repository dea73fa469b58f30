"""DenseNet-121 with class maps as an OpenVINO graph, built from a bundle's weights without TensorFlow."""

from collections.abc import Callable, Mapping

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops

from worker.model.architecture import BATCH_NORM_EPSILON, BATCH_NORM_WEIGHTS, BLOCKS_PER_STAGE, HEAD
from worker.model.bundle.bundle import Bundle

IMAGES_INPUT = "images"
WHITE_INPUT = "white"
Weights = Mapping[str, NDArray[np.float32]]
Operands = Callable[[str, openvino.Node, NDArray[np.float32]], tuple[openvino.Node, openvino.Node]]
"""Function that makes a convolution's two inputs of its layer's name, maps (N, C, h, w) and kernel (D, C, k, k)."""

_HEIGHT, _WIDTH = 2, 3


def float_operands(
    _layer: str, maps: openvino.Node, kernel: NDArray[np.float32]
) -> tuple[openvino.Node, openvino.Node]:
    """`Operands` in the precision for which the graph is compiled."""
    return maps, ops.constant(kernel)


def build_openvino_graph(bundle: Bundle, operands: Operands = float_operands) -> openvino.Model:
    """Return the graph. Its inputs and outputs are those of `worker.model.network.graph.build_class_map_graph`."""
    inputs, features = build_features(bundle, operands)
    maps, logits = _class_maps(features, bundle)
    return openvino.Model([logits, maps], inputs, bundle.name)


def build_features(bundle: Bundle, operands: Operands) -> tuple[list[openvino.Node], openvino.Node]:
    """Return the graph's inputs and the last feature map (N, C, h, w)."""
    side = bundle.recipe.input_size_px
    low, high = (np.float32(value) for value in bundle.recipe.input_range)
    images = ops.parameter([-1, side, side, 3], np.float32, name=IMAGES_INPUT)
    white = ops.parameter([], np.float32, name=WHITE_INPUT)
    for parameter in (images, white):
        parameter.get_output_tensor(0).set_names({parameter.friendly_name})
    scaled = ops.add(ops.multiply(images, ops.divide(ops.constant(high - low), white)), ops.constant(low))
    channels_first = ops.transpose(scaled, ops.constant([0, 3, 1, 2]))
    return [images, white], _build_densenet(channels_first, bundle.scaled_weights, operands)


def _class_maps(features: openvino.Node, bundle: Bundle) -> tuple[openvino.Node, openvino.Node]:
    """Return class maps (N, 5, h, w) and logits (N, 5) from the last feature map (N, C, h, w).

    The maps are a convolution with the head's weights. It also limits the part of the graph that OpenVINO keeps in
    float32 near the results, which would otherwise be the whole last block (6% slower).
    """
    kernel = np.ascontiguousarray(bundle.scaled_weights[f"{HEAD}/kernel"].T)[..., None, None]
    maps = ops.convolution(features, ops.constant(kernel), [1, 1], [0, 0], [0, 0], [1, 1])
    means = ops.reduce_mean(maps, ops.constant([_HEIGHT, _WIDTH]))
    logits = ops.add(means, ops.constant(bundle.scaled_weights[f"{HEAD}/bias"]))
    return maps, logits


def _build_densenet(images: openvino.Node, weights: Weights, operands: Operands) -> openvino.Node:
    """Return the last feature map (N, 1024, S / 32, S / 32) of images (N, 3, S, S): DenseNet-121 without its top.

    Source: Huang et al. 2017, table 1, arXiv 1608.06993.
    """

    def convolve(layer: str, maps: openvino.Node, *, stride: int = 1, padding: int = 0) -> openvino.Node:
        maps, kernel = operands(layer, maps, np.ascontiguousarray(weights[f"{layer}/kernel"].transpose(3, 2, 0, 1)))
        return ops.convolution(maps, kernel, [stride] * 2, [padding] * 2, [padding] * 2, [1, 1])

    def normalise(layer: str, maps: openvino.Node) -> openvino.Node:
        """Add batch normalisation and ReLU."""
        statistics = (ops.constant(weights[f"{layer}/{name}"]) for name in BATCH_NORM_WEIGHTS)
        return ops.relu(ops.batch_norm_inference(maps, *statistics, BATCH_NORM_EPSILON))

    stem = normalise("conv1_bn", convolve("conv1_conv", images, stride=2, padding=3))
    # All values are >= 0, so OpenVINO's padding with -inf gives the same maxima as Keras's padding with zeros.
    maps = ops.max_pool(stem, [2, 2], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
    for stage, blocks in enumerate(BLOCKS_PER_STAGE, start=2):
        for block in range(1, blocks + 1):
            name = f"conv{stage}_block{block}"
            narrow = convolve(f"{name}_1_conv", normalise(f"{name}_0_bn", maps))
            grown = convolve(f"{name}_2_conv", normalise(f"{name}_1_bn", narrow), padding=1)
            maps = ops.concat([maps, grown], axis=1)
        if stage <= len(BLOCKS_PER_STAGE):
            reduced = convolve(f"pool{stage}_conv", normalise(f"pool{stage}_bn", maps))
            maps = ops.avg_pool(reduced, [2, 2], [0, 0], [0, 0], [2, 2], exclude_pad=True)
    return normalise("bn", maps)
