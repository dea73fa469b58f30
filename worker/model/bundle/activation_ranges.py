"""The most that each convolution of a network is shown, channel by channel: what 256 levels are laid over."""

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

_EXACT = ("conv1_", "conv2_", "pool2_", f"{HEAD}/")
"""Layers that stay in floats. What the first ones round, all later ones see: with half of `conv2` in 8 bits, too, the
99th percentile of the change in probability was 0.004 or 0.009, as the photographs fell that ranges were measured on;
0.005 without, whichever they were (on APTOS-2019)."""

ActivationRanges = Mapping[str, NDArray[np.float32]]


@cache
def activation_range_shapes() -> MappingProxyType[str, tuple[int]]:
    """The number of channels that each convolution in 8 bits is shown, by its layer's name, in the layers' order."""
    kernels = {
        name.removesuffix("/kernel"): shape for name, shape in weight_shapes().items() if name.endswith("/kernel")
    }
    return MappingProxyType(
        {layer: (shape[2],) for layer, shape in kernels.items() if not f"{layer}/".startswith(_EXACT)}
    )


def parse_activation_ranges(data: bytes, *, source: str) -> dict[str, NDArray[np.float32]]:
    """The ranges out of a safetensors file, float32 (C,) for each layer of `activation_range_shapes`, read-only.

    source: names the file in errors. Raises ModelError for damaged content, other layers or shapes, and a range that is
    negative or not finite.
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
            raise ModelError(f"{source}: {layer} holds a range that is negative or not finite")
        array.setflags(write=False)
    return {layer: arrays[layer] for layer in shapes}


def serialise_activation_ranges(ranges: ActivationRanges) -> bytes:
    """The same as safetensors."""
    return save({layer: np.ascontiguousarray(ranges[layer], np.float32) for layer in activation_range_shapes()})
