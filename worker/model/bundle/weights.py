"""Read and write a network's weights as safetensors, which cannot contain code."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from worker.core.errors import ModelError
from worker.model.architecture import DENSENET121, HEAD, weight_shapes
from worker.model.ordinal import OUTPUTS


def parse_weights(data: bytes, *, source: str, architecture: str = DENSENET121) -> dict[str, NDArray[np.float32]]:
    """Return the weights in a safetensors file of float16 or float32, as read-only float32.

    source: names the file in errors. Raises ModelError for damaged content, and as `check_weights` does.
    """
    try:
        arrays = load(data)
    except SafetensorError as error:
        raise ModelError(f"{source}: {error}") from error
    except KeyError as error:
        raise ModelError(f"{source}: has the type {error.args[0]}, float16 or float32 is needed") from error
    weights = check_weights(arrays, source=source, architecture=architecture)
    for array in weights.values():
        array.setflags(write=False)
    return weights


def serialise_weights(weights: Mapping[str, NDArray[np.float32]], *, float16_kernels: bool) -> bytes:
    """Return weights as a safetensors file.

    float16_kernels: store kernels as float16; vectors, which are small, stay float32.
    """
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
    """Return the arrays as float32, in the order of the layers.

    Raises ModelError unless names and shapes are those of the architecture, types are float16 or float32, all values
    are finite, and no variance is negative. For backbones other than DenseNet-121, only the head's names and shapes are
    checked here, and the others when the network is built.
    """
    shapes = weight_shapes() if architecture == DENSENET121 else _shapes_with_head(arrays)
    missing = [name for name in shapes if name not in arrays]
    if missing:
        raise ModelError(f"{source}: {len(missing)} of {len(shapes)} weights are missing, the first is {missing[0]}")
    unknown = [name for name in arrays if name not in shapes]
    if unknown:
        raise ModelError(f"{source}: {len(unknown)} weights are not in the network, the first is {unknown[0]}")
    weights = {}
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape:
            raise ModelError(f"{source}: {name} has the shape {array.shape}, {shape} is needed")
        if array.dtype not in (np.float16, np.float32):
            raise ModelError(f"{source}: {name} is {array.dtype}, float16 or float32 is needed")
        weights[name] = array.astype(np.float32)
        if not np.isfinite(weights[name]).all():
            raise ModelError(f"{source}: {name} has a value that is not finite")
        if name.endswith("/moving_variance") and weights[name].min() < 0:
            raise ModelError(f"{source}: {name} has a negative variance, {weights[name].min():g}")
    return weights


def _shapes_with_head(arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays, and for the head those that it must have."""
    shapes = {name: array.shape for name, array in arrays.items()}
    kernel = shapes.get(f"{HEAD}/kernel", ())
    return {**shapes, f"{HEAD}/kernel": (*kernel[:1], OUTPUTS), f"{HEAD}/bias": (OUTPUTS,)}
