"""Layers and weights of the network by name and shape, without TensorFlow.

DenseNet-121 without its top (Huang et al. 2017, table 1, arXiv 1608.06993) under Keras's layer names, and a dense head.
"""

from collections.abc import Iterator
from functools import cache
from types import MappingProxyType

from worker.model.ordinal import OUTPUTS

DENSENET121 = "densenet121"
"""The default architecture, by its name in `worker.model.network.build.list_backbones`."""
HEAD = "head"
LAST_FEATURE_LAYER = "relu"
"""DenseNet-121's last feature map, which the head averages."""
LAST_OF_BACKBONE = "last"
"""Stands for the last feature map of any other backbone, which is found when the network is built."""

BLOCKS_PER_STAGE = (6, 12, 24, 16)
_GROWTH_RATE = 32
_BOTTLENECK_FILTERS = 4 * _GROWTH_RATE
_STEM_FILTERS = 64
BATCH_NORM_EPSILON = 1.001e-5
"""As in keras.applications."""
BATCH_NORM_WEIGHTS = ("gamma", "beta", "moving_mean", "moving_variance")


def last_feature_layer(architecture: str) -> str:
    """Return the name of the feature map that the head averages."""
    return LAST_FEATURE_LAYER if architecture == DENSENET121 else LAST_OF_BACKBONE


@cache
def weight_shapes() -> MappingProxyType[str, tuple[int, ...]]:
    """Return the shape of each of the 606 weights by name (`conv1_conv/kernel`), in the order of the layers."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, kernel in _weighted_layers():
        if len(kernel) == 1:
            shapes.update({f"{layer}/{weight}": kernel for weight in BATCH_NORM_WEIGHTS})
        else:
            shapes[f"{layer}/kernel"] = kernel
    shapes[f"{HEAD}/bias"] = (OUTPUTS,)
    return MappingProxyType(shapes)


@cache
def feature_layers() -> frozenset[str]:
    """Return the names of the layers whose output is a feature map, and can be a target of Grad-CAM."""
    layers = {"pool1", LAST_FEATURE_LAYER}
    for layer, _ in _weighted_layers():
        if layer == HEAD:
            continue
        layers.add(layer)
        if layer.endswith("_bn"):
            layers.add(f"{layer.removesuffix('_bn')}_relu")
        elif layer.endswith("_2_conv"):
            layers.add(f"{layer.removesuffix('_2_conv')}_concat")
        elif layer.startswith("pool"):
            layers.add(f"{layer.removesuffix('_conv')}_pool")
    return frozenset(layers)


def _weighted_layers() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield each layer with weights and its kernel's shape; a batch normalisation has the shape (channels,)."""
    yield "conv1_conv", (7, 7, 3, _STEM_FILTERS)
    yield "conv1_bn", (_STEM_FILTERS,)
    filters = _STEM_FILTERS
    for stage, blocks in enumerate(BLOCKS_PER_STAGE, start=2):
        for block in range(1, blocks + 1):
            name = f"conv{stage}_block{block}"
            yield f"{name}_0_bn", (filters,)
            yield f"{name}_1_conv", (1, 1, filters, _BOTTLENECK_FILTERS)
            yield f"{name}_1_bn", (_BOTTLENECK_FILTERS,)
            yield f"{name}_2_conv", (3, 3, _BOTTLENECK_FILTERS, _GROWTH_RATE)
            filters += _GROWTH_RATE
        if stage < len(BLOCKS_PER_STAGE) + 1:
            yield f"pool{stage}_bn", (filters,)
            yield f"pool{stage}_conv", (1, 1, filters, filters // 2)
            filters //= 2
    yield "bn", (filters,)
    yield HEAD, (filters, OUTPUTS)
