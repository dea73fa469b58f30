"""Golden inputs: pictures with the answers of the float32 network, by which each engine tests itself at its start."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from worker.core.errors import ModelError
from worker.core.predictions import ModelInput
from worker.model.ordinal import OUTPUTS

GOLDEN_FILE = "golden.safetensors"
MAX_GOLDEN_BYTES = 64 * 1024 * 1024
MAX_INPUTS = 64
MAX_SALIENCY_SIDE = 512


@dataclass(frozen=True, slots=True)
class GoldenInputs:
    """N preprocessed pictures and their answers in float32.

    pictures: uint8 (N, S, S, 3), one array for each recipe of the model. probabilities: (N, 5). saliency: (N, h, w).
    """

    pictures: tuple[NDArray[np.uint8], ...]
    probabilities: NDArray[np.float32]
    saliency: NDArray[np.float32]

    @property
    def inputs(self) -> list[ModelInput]:
        """The input of the model for each picture."""
        if len(self.pictures) == 1:
            return list(self.pictures[0])
        return list(zip(*self.pictures, strict=True))


def parse_golden_inputs(data: bytes, *, source: str, input_sizes_px: Sequence[int]) -> GoldenInputs:
    """Return the golden inputs in a safetensors file.

    source: names the file in errors. input_sizes_px: of the model's recipes. Raises ModelError for damaged content, for
    arrays with other names, types or shapes, and for answers that are not in [0, 1].
    """
    try:
        arrays = load(data)
    except (SafetensorError, KeyError) as error:
        raise ModelError(f"{source}: {error}") from error
    names = [f"pictures_{number}" for number in range(len(input_sizes_px))]
    if arrays.keys() != {*names, "probabilities", "saliency"}:
        raise ModelError(f"{source}: has the arrays {', '.join(sorted(arrays))}")
    count = len(arrays["probabilities"]) if arrays["probabilities"].ndim else 0
    if not 1 <= count <= MAX_INPUTS:
        raise ModelError(f"{source}: has {count} inputs, 1 to {MAX_INPUTS} are needed")
    for name, side in zip(names, input_sizes_px, strict=True):
        _check_array(arrays[name], (count, side, side, 3), np.uint8, f"{source}: {name}")
    sides = arrays["saliency"].shape[1:]
    if len(sides) != 2 or not all(1 <= side <= MAX_SALIENCY_SIDE for side in sides):
        raise ModelError(f"{source}: saliency has the shape {arrays['saliency'].shape}")
    for name, shape in (("probabilities", (count, OUTPUTS)), ("saliency", (count, *sides))):
        _check_array(arrays[name], shape, np.float32, f"{source}: {name}")
        # NaN fails this comparison.
        if not (arrays[name].min() >= 0 and arrays[name].max() <= 1):
            raise ModelError(f"{source}: {name} has a value outside 0 to 1")
    return GoldenInputs(tuple(arrays[name] for name in names), arrays["probabilities"], arrays["saliency"])


def serialise_golden_inputs(golden: GoldenInputs) -> bytes:
    """Return the golden inputs as a safetensors file."""
    pictures = {f"pictures_{number}": array for number, array in enumerate(golden.pictures)}
    arrays = {**pictures, "probabilities": golden.probabilities, "saliency": golden.saliency}
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def _check_array(array: NDArray[np.generic], shape: tuple[int, ...], dtype: type[np.generic], what: str) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise ModelError(f"{what} is {array.dtype} {array.shape}, {np.dtype(dtype)} {shape} is needed")
