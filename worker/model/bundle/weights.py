"""Read and write a network's weights as safetensors, which cannot carry code."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from worker.core.errors import ModelError
from worker.model.architecture import DENSENET121, HEAD, weight_shapes
from worker.model.ordinal import OUTPUTS


def parse_weights(data: bytes, *, source: str, architecture: str = DENSENET121) -> dict[str, NDArray[np.float32]]:
    """The network's weights out of a safetensors file, float16 or float32 on disk, float32 and read-only here.

    source: names the file in errors. Raises ModelError for damaged content and for whatever `check_weights` refuses.
    """
    try:
        arrays = load(data)
    except SafetensorError as error:
        raise ModelError(f"{source}: {error}") from error
    except KeyError as error:
        raise ModelError(f"{source}: holds the type {error.args[0]}, float16 or float32 is needed") from error
    weights = check_weights(arrays, source=source, architecture=architecture)
    for array in weights.values():
        array.setflags(write=False)
    return weights


def serialise_weights(weights: Mapping[str, NDArray[np.float32]], *, float16_kernels: bool) -> bytes:
    """Weights as safetensors; with `float16_kernels` the kernels become float16, the small vectors stay float32."""
    with np.errstate(over="ignore"):
        return save(
            {
                name: np.asarray(array, np.float16 if float16_kernels and array.ndim > 1 else np.float32, order="C")
                for name, array in weights.items()
            }
        )


def check_weights(
    arrays: Mapping[str, NDArray[np.generic]], *, source: str, architecture: str = DENSENET121
) -> dict[str, NDArray[np.float32]]:
    """The arrays as float32 in the order of the layers.

    Raises ModelError unless names and shapes are the architecture's, types are float16 or float32, every value is
    finite and no variance is negative. Of other backbones than DenseNet-121 only the head is known here; the rest is
    checked when the network is built.
    """
    shapes = weight_shapes() if architecture == DENSENET121 else _shapes_about_head(arrays)
    missing = [name for name in shapes if name not in arrays]
    if missing:
        raise ModelError(f"{source}: {len(missing)} of {len(shapes)} weights are missing, the first is {missing[0]}")
    unknown = [name for name in arrays if name not in shapes]
    if unknown:
        raise ModelError(f"{source}: {len(unknown)} weights the network does not have, the first is {unknown[0]}")
    weights = {}
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape:
            raise ModelError(f"{source}: {name} has the shape {array.shape}, {shape} is needed")
        if array.dtype not in (np.float16, np.float32):
            raise ModelError(f"{source}: {name} is {array.dtype}, float16 or float32 is needed")
        weights[name] = array.astype(np.float32)
        if not np.isfinite(weights[name]).all():
            raise ModelError(f"{source}: {name} holds a value that is not finite")
        if name.endswith("/moving_variance") and weights[name].min() < 0:
            raise ModelError(f"{source}: {name} holds a negative variance, {weights[name].min():g}")
    return weights


def _shapes_about_head(arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, tuple[int, ...]]:
    """The arrays' own shapes, but for the head, which has to be there and as wide as the outputs."""
    shapes = {name: array.shape for name, array in arrays.items()}
    kernel = shapes.get(f"{HEAD}/kernel", ())
    return {**shapes, f"{HEAD}/kernel": (*kernel[:1], OUTPUTS), f"{HEAD}/bias": (OUTPUTS,)}
