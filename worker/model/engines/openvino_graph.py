"""A network with class maps as an OpenVINO graph, built from a bundle's weights without TensorFlow."""

import numpy as np
import openvino
from openvino import opset13 as ops

from worker.model.architecture import DENSENET121, HEAD
from worker.model.bundle.bundle import Bundle
from worker.model.engines.openvino_densenet import build_densenet
from worker.model.engines.openvino_efficientnet_lite import build_efficientnet_lite
from worker.model.engines.openvino_operands import Operands, float_operands
from worker.model.ordinal import OUTPUTS

IMAGES_INPUT = "images"
WHITE_INPUT = "white"
_HEIGHT, _WIDTH = 2, 3


def build_openvino_graph(bundle: Bundle, operands: Operands = float_operands) -> openvino.Model:
    """Return the graph. Its inputs and outputs are those of `worker.model.network.graph.build_image_function`."""
    inputs, features = build_features(bundle, operands)
    return openvino.Model(_class_maps(features, bundle), inputs, bundle.name)


def build_feature_graph(bundle: Bundle) -> openvino.Model:
    """Return a graph with the same inputs, whose outputs are pooled features (N, C) and feature maps (N, C, h, w)."""
    inputs, features = build_features(bundle, float_operands)
    pooled = ops.reduce_mean(features, ops.constant([_HEIGHT, _WIDTH]))
    return openvino.Model([pooled.output(0), features.output(0)], inputs, bundle.name)


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


def _class_maps(features: openvino.Node, bundle: Bundle) -> list[openvino.Output]:
    """Return logits (N, 5), class maps (N, 5, h, w) and, with a feature space, projections (N, K) of the feature map.

    The maps are a convolution with the head's weights. It also limits the part of the graph that OpenVINO keeps in
    float32 near the results, which would otherwise be the whole last block (6% slower). The projections use the same
    convolution.
    """
    head, space = bundle.scaled_weights[f"{HEAD}/kernel"], bundle.feature_space
    columns = head if space is None else np.concatenate([head, space.directions], axis=1)
    kernel = ops.constant(np.ascontiguousarray(columns.T)[..., None, None])
    projected = ops.convolution(features, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
    means = ops.reduce_mean(projected, ops.constant([_HEIGHT, _WIDTH]))
    bias = ops.constant(bundle.scaled_weights[f"{HEAD}/bias"])
    if space is None:
        return [ops.add(means, bias).output(0), projected.output(0)]
    lengths = ops.constant([OUTPUTS, space.directions.shape[1]])
    maps = ops.variadic_split(projected, ops.constant(1), lengths).output(0)
    logits, projections = ops.variadic_split(means, ops.constant(1), lengths).outputs()
    return [ops.add(logits, bias).output(0), maps, projections]
