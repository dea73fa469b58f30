"""DenseNet-121 as part of an OpenVINO graph."""

import numpy as np
import openvino
from openvino import opset13 as ops

from worker.model.architecture import BATCH_NORM_EPSILON, BATCH_NORM_WEIGHTS, BLOCKS_PER_STAGE
from worker.model.engines.openvino_operands import Operands, Weights


def build_densenet(images: openvino.Node, weights: Weights, operands: Operands) -> openvino.Node:
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
