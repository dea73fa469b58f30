"""A network with class maps as an OpenVINO graph, built from a bundle's weights without TensorFlow."""

import numpy as np
import openvino
from openvino import opset13 as ops

from worker.model.architecture import DENSENET121, HEAD
from worker.model.bundle.bundle import Bundle
from worker.model.engines.openvino_densenet import build_densenet
from worker.model.engines.openvino_efficientnet_lite import build_efficientnet_lite
from worker.model.engines.openvino_operands import Operands, float_operands

IMAGES_INPUT = "images"
WHITE_INPUT = "white"
_HEIGHT, _WIDTH = 2, 3


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
    if bundle.manifest.architecture == DENSENET121:
        return [images, white], build_densenet(channels_first, bundle.scaled_weights, operands)
    return [images, white], build_efficientnet_lite(
        bundle.manifest.architecture, channels_first, bundle.scaled_weights, operands
    )


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
