"""EfficientNet-Lite as part of an OpenVINO graph."""

import numpy as np
import openvino
from openvino import opset13 as ops

from worker.model.architecture import BATCH_NORM_WEIGHTS
from worker.model.efficientnet_lite import BATCH_NORM_EPSILON, Block, list_blocks
from worker.model.engines.openvino_operands import Operands, Weights


def build_efficientnet_lite(
    architecture: str, images: openvino.Node, weights: Weights, operands: Operands
) -> openvino.Node:
    """Return the last feature map (N, 1280, S / 32, S / 32) of images (N, 3, S, S).

    Padding is distributed as in TensorFlow: an odd pixel goes to the bottom and the right.
    """

    def convolve(prefix: str, maps: openvino.Node, *, stride: int = 1) -> openvino.Node:
        layer = f"{prefix}conv"
        maps, kernel = operands(layer, maps, np.ascontiguousarray(weights[f"{layer}/kernel"].transpose(3, 2, 0, 1)))
        convolved = ops.convolution(maps, kernel, [stride] * 2, [0, 0], [0, 0], [1, 1], auto_pad="same_upper")
        return normalise(prefix, convolved)

    def convolve_depthwise(block: Block, maps: openvino.Node) -> openvino.Node:
        kernel = weights[f"{block.name}dwconv/kernel"].transpose(2, 3, 0, 1)[:, :, None]
        convolved = ops.group_convolution(
            maps,
            ops.constant(np.ascontiguousarray(kernel)),
            [block.stride] * 2,
            [0, 0],
            [0, 0],
            [1, 1],
            auto_pad="same_upper",
        )
        return activate(normalise(block.name, convolved))

    def normalise(prefix: str, maps: openvino.Node) -> openvino.Node:
        statistics = (ops.constant(weights[f"{prefix}bn/{name}"]) for name in BATCH_NORM_WEIGHTS)
        return ops.batch_norm_inference(maps, *statistics, BATCH_NORM_EPSILON)

    def activate(maps: openvino.Node) -> openvino.Node:
        return ops.clamp(maps, 0.0, 6.0)

    maps = activate(convolve("stem_", images, stride=2))
    for block in list_blocks(architecture):
        expanded = maps if block.expansion == 1 else activate(convolve(f"{block.name}expand_", maps))
        projected = convolve(f"{block.name}project_", convolve_depthwise(block, expanded))
        maps = ops.add(projected, maps) if block.is_residual else projected
    return activate(convolve("top_", maps))
