"""The graph that grades and explains, built of a bundle's weights in OpenVINO's own operations, without TensorFlow."""

from collections.abc import Callable, Mapping

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops

from worker.model.architecture import BLOCKS_PER_STAGE, HEAD
from worker.model.bundle.bundle import Bundle

IMAGES_INPUT = "images"
WHITE_INPUT = "white"
Weights = Mapping[str, NDArray[np.float32]]
Operands = Callable[[str, openvino.Node, NDArray[np.float32]], tuple[openvino.Node, openvino.Node]]
"""What a convolution multiplies, of its layer's name, its maps (N, C, h, w) and its kernel (D, C, k, k)."""

_EPSILON = 1.001e-5
"""Of every normalisation, as Keras's DenseNet has it."""
_HEIGHT, _WIDTH = 2, 3


def float_operands(
    _layer: str, maps: openvino.Node, kernel: NDArray[np.float32]
) -> tuple[openvino.Node, openvino.Node]:
    """`Operands` in the precision that the graph is compiled for."""
    return maps, ops.constant(kernel)


def build_openvino_graph(bundle: Bundle, operands: Operands = float_operands) -> openvino.Model:
    """Build the graph; inputs and outputs are those of `worker.model.network.graph.build_class_map_graph`."""
    inputs, features = build_features(bundle, operands)
    maps, logits = _class_maps(features, bundle)
    return openvino.Model([logits, maps], inputs, bundle.name)


def build_features(bundle: Bundle, operands: Operands) -> tuple[list[openvino.Node], openvino.Node]:
    """The inputs, and the last feature map (N, C, h, w)."""
    side = bundle.recipe.input_size_px
    low, high = (np.float32(value) for value in bundle.recipe.input_range)
    images = ops.parameter([-1, side, side, 3], np.float32, name=IMAGES_INPUT)
    white = ops.parameter([], np.float32, name=WHITE_INPUT)
    for parameter in (images, white):
        parameter.get_output_tensor(0).set_names({parameter.friendly_name})
    scaled = ops.add(ops.multiply(images, ops.divide(ops.constant(high - low), white)), ops.constant(low))
    channels_first = ops.transpose(scaled, ops.constant([0, 3, 1, 2]))
    return [images, white], _find_features(channels_first, bundle.scaled_weights, operands)


def _class_maps(features: openvino.Node, bundle: Bundle) -> tuple[openvino.Node, openvino.Node]:
    """ClassMaps (N, 5, h, w) and logits (N, 5) from the last feature map (N, C, h, w).

    The evidence for an output at a place is the head's weights times the features there: its mean is the logit, and
    what is positive in it the closed form of `network.gradcam`. As a convolution it also ends what OpenVINO keeps
    in float32 towards the results; else that would be the whole last block (6% slower).
    """
    kernel = np.ascontiguousarray(bundle.scaled_weights[f"{HEAD}/kernel"].T)[..., None, None]
    evidence = ops.convolution(features, ops.constant(kernel), [1, 1], [0, 0], [0, 0], [1, 1])
    means = ops.reduce_mean(evidence, ops.constant([_HEIGHT, _WIDTH]))
    logits = ops.add(means, ops.constant(bundle.scaled_weights[f"{HEAD}/bias"]))
    return evidence, logits


def _find_features(images: openvino.Node, weights: Weights, operands: Operands) -> openvino.Node:
    """The last feature map (N, 1024, S / 32, S / 32) of images (N, 3, S, S): DenseNet-121 without its top.

    Source: Huang et al. 2017, table 1, arXiv 1608.06993.
    """

    def convolve(layer: str, maps: openvino.Node, *, stride: int = 1, padding: int = 0) -> openvino.Node:
        maps, kernel = operands(layer, maps, np.ascontiguousarray(weights[f"{layer}/kernel"].transpose(3, 2, 0, 1)))
        return ops.convolution(maps, kernel, [stride] * 2, [padding] * 2, [padding] * 2, [1, 1])

    def normalise(layer: str, maps: openvino.Node) -> openvino.Node:
        """Batch normalisation, then what is positive."""
        kinds = ("gamma", "beta", "moving_mean", "moving_variance")
        statistics = (ops.constant(weights[f"{layer}/{kind}"]) for kind in kinds)
        return ops.relu(ops.batch_norm_inference(maps, *statistics, _EPSILON))

    stem = normalise("conv1_bn", convolve("conv1_conv", images, stride=2, padding=3))
    # Nothing is below zero here, so OpenVINO's padding, which never wins, is Keras's padding with zeros.
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
