"""Per-channel activation maxima of each convolution, used as INT8 quantisation ranges."""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from worker.core.errors import ModelError
from worker.model.architecture import HEAD, weight_shapes

RANGES_FILE = "ranges.safetensors"
MAX_RANGES_BYTES = 1024 * 1024

_FLOAT_LAYERS = ("conv1_", "conv2_", "pool2_", f"{HEAD}/")
"""Prefixes of layers that stay in floating point, because rounding in the first layers affects all later ones.

On APTOS-2019, the 99th percentile of the change in probability was 0.005. With half of `conv2` in INT8 as well, it was
0.004 to 0.009, depending on the photographs that the ranges were measured on.
"""

ActivationRanges = Mapping[str, NDArray[np.float32]]


@cache
def activation_range_shapes() -> MappingProxyType[str, tuple[int]]:
    """Return the shape (C,) of the ranges of each INT8 convolution, which has C input channels, by layer, in order."""
    kernels = {
        name.removesuffix("/kernel"): shape for name, shape in weight_shapes().items() if name.endswith("/kernel")
    }
    return MappingProxyType(
        {layer: (shape[2],) for layer, shape in kernels.items() if not f"{layer}/".startswith(_FLOAT_LAYERS)}
    )


def parse_activation_ranges(data: bytes, *, source: str) -> dict[str, NDArray[np.float32]]:
    """Return the ranges in a safetensors file, float32 (C,) for each layer of `activation_range_shapes`, read-only.

    source: names the file in errors. Raises ModelError for damaged content, for other layers or shapes, and for a range
    that is negative or not finite.
    """
    try:
        arrays = load(data)
    except (SafetensorError, KeyError) as error:
        raise ModelError(f"{source}: {error}") from error
    shapes = activation_range_shapes()
    if arrays.keys() != shapes.keys():
        other = sorted(arrays.keys() ^ shapes.keys())
        raise ModelError(f"{source}: {len(other)} layers are missing or unknown, the first is {other[0]}")
    for layer, shape in shapes.items():
        array = arrays[layer]
        if array.shape != shape or array.dtype != np.float32:
            raise ModelError(f"{source}: {layer} is {array.dtype} {array.shape}, float32 {shape} is needed")
        if not (np.isfinite(array).all() and array.min() >= 0):
            raise ModelError(f"{source}: {layer} has a range that is negative or not finite")
        array.setflags(write=False)
    return {layer: arrays[layer] for layer in shapes}


def serialise_activation_ranges(ranges: ActivationRanges) -> bytes:
    """Return the ranges as a safetensors file."""
    return save({layer: np.ascontiguousarray(ranges[layer], np.float32) for layer in activation_range_shapes()})
