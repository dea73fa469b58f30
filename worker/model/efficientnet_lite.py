"""Blocks of EfficientNet-Lite 0 to 4, without TensorFlow.

EfficientNet without squeeze-and-excitation and with ReLU6, which quantises well. Sources: Tan and Le 2019, arXiv
1905.11946, table 1, and the "lite" variants in TensorFlow's TPU repository (2020). Layers are named as those of
EfficientNet in keras.applications.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

BATCH_NORM_EPSILON = 1e-3
STEM_FILTERS, TOP_FILTERS = 32, 1280
"""Not scaled by the width, unlike in EfficientNet."""
_FILTER_MULTIPLE = 8


@dataclass(frozen=True, slots=True)
class Scaling:
    """Factors of the number of filters and of the number of blocks, relative to variant 0."""

    width: float
    depth: float


@dataclass(frozen=True, slots=True)
class Stage:
    """Consecutive blocks of variant 0: kernel size, repeats, filters, expansion factor, and stride of the first."""

    kernel: int
    repeats: int
    filters: int
    expansion: int
    stride: int


@dataclass(frozen=True, slots=True)
class Block:
    """An inverted residual block (Sandler et al. 2018, arXiv 1801.04381); `name` is the prefix of its layers.

    channels, filters: number of channels of its input and its output.
    """

    name: str
    kernel: int
    channels: int
    filters: int
    expansion: int
    stride: int

    @property
    def is_residual(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.channels == self.filters


VARIANTS = MappingProxyType(
    {
        "efficientnetlite0": Scaling(1.0, 1.0),
        "efficientnetlite1": Scaling(1.0, 1.1),
        "efficientnetlite2": Scaling(1.1, 1.2),
        "efficientnetlite3": Scaling(1.2, 1.4),
        "efficientnetlite4": Scaling(1.4, 1.8),
    }
)
STAGES = (
    Stage(3, 1, 16, 1, 1),
    Stage(3, 2, 24, 6, 2),
    Stage(5, 2, 40, 6, 2),
    Stage(3, 3, 80, 6, 2),
    Stage(5, 3, 112, 6, 1),
    Stage(5, 4, 192, 6, 2),
    Stage(3, 1, 320, 6, 1),
)


def list_blocks(architecture: str) -> Iterator[Block]:
    """Yield each block in order. architecture: a key of VARIANTS."""
    scaling = VARIANTS[architecture]
    channels = STEM_FILTERS
    for number, stage in enumerate(STAGES, start=1):
        is_scaled = number not in (1, len(STAGES))
        filters = _scale_filters(stage.filters, scaling.width)
        for index in range(math.ceil(stage.repeats * scaling.depth) if is_scaled else stage.repeats):
            name = f"block{number}{chr(ord('a') + index)}_"
            stride = 1 if index else stage.stride
            yield Block(name, stage.kernel, channels, filters, stage.expansion, stride)
            channels = filters


def _scale_filters(filters: int, width: float) -> int:
    """Round to a multiple of 8, but never below 90 % of the exact number."""
    exact = filters * width
    rounded = max(_FILTER_MULTIPLE, int(exact + _FILTER_MULTIPLE / 2) // _FILTER_MULTIPLE * _FILTER_MULTIPLE)
    return rounded + _FILTER_MULTIPLE if rounded < 0.9 * exact else rounded
