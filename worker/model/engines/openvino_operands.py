"""The inputs of the convolutions in an OpenVINO graph, which determine their precision."""

from collections.abc import Callable, Mapping

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops

Weights = Mapping[str, NDArray[np.float32]]
Operands = Callable[[str, openvino.Node, NDArray[np.float32]], tuple[openvino.Node, openvino.Node]]
"""Function that makes a convolution's two inputs of its layer's name, maps (N, C, h, w) and kernel (D, C, k, k)."""


def float_operands(
    _layer: str, maps: openvino.Node, kernel: NDArray[np.float32]
) -> tuple[openvino.Node, openvino.Node]:
    """`Operands` in the precision for which the graph is compiled."""
    return maps, ops.constant(kernel)
