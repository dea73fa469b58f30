"""Grade and explain batches with JAX, on a GPU if there is one."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import jax
import keras
import numpy as np
from numpy.typing import NDArray

from worker.core.errors import AcceleratorMemoryError
from worker.core.machine import usable_cores
from worker.core.predictions import ModelInput
from worker.core.vocabulary import Precision
from worker.model.bundle.bundle import Bundle
from worker.model.engines.batch_io import blank_images, stack_images, validate_images
from worker.model.engines.device_options import DeviceOptions
from worker.model.engines.jax_device import claim_device
from worker.model.engines.keras_engine import KerasEngine
from worker.model.network.build import FloatPrecision, load_network
from worker.model.network.graph import build_image_function

MAX_COMPILERS = 8
"""Most batch sizes that are compiled at a time."""


class JaxEngine(KerasEngine):
    """An `Engine` with one program for each batch size 1, 2, 4, ...; a batch is padded to the next size."""

    def __init__(
        self,
        bundle: Bundle,
        precision: FloatPrecision | None = None,
        options: DeviceOptions = DeviceOptions(),  # noqa: B008 - it is frozen
    ) -> None:
        """precision: None is bfloat16 on a GPU and float32 on a processor."""
        self.bundle = bundle
        self.description = claim_device(precision, options)
        exact = self.description.precision is Precision.FLOAT32
        network = load_network(bundle, "float32" if exact else "bfloat16")
        variables = network.variables
        explain = build_image_function(bundle, network)

        def run(values: list[jax.Array], images: jax.Array) -> tuple[jax.Array, ...]:
            white = 255.0 if images.dtype == np.uint8 else 1.0
            # GPUs round the products of float32 matrices by default.
            with (
                keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))),
                jax.default_matmul_precision("highest" if exact else "default"),
            ):
                return explain(images, white)

        self._values = [variable.value for variable in variables]
        self._function = jax.jit(run)
        self._programs: dict[tuple[int, str], Any] = {}
        self._full_batch = 1

    def warm_up(self, batch_size: int) -> None:
        """See `Engine.warm_up`. `batch_size` is that of a full batch from now on."""
        self.compile(batch_size)
        self.predict(blank_images(self.bundle.recipe.input_size_px, batch_size))

    def compile(self, batch_size: int) -> None:
        """Compile the batch sizes up to a full batch, without running any."""
        self._full_batch = batch_size
        sizes = list_batch_sizes(batch_size)
        with translate_memory_errors(batch_size):
            traced = [self._trace(size, np.uint8) for size in sizes]
            with ThreadPoolExecutor(min(MAX_COMPILERS, usable_cores())) as pool:
                programs = pool.map(lambda one: one.compile(), traced)
                self._programs |= {(size, "uint8"): one for size, one in zip(sizes, programs, strict=True)}

    def _run(self, enhanced: Sequence[ModelInput]) -> list[NDArray[np.float32]]:
        images, _ = stack_images(validate_images(enhanced, self.bundle.recipe.input_size_px))
        count = len(images)
        size = pad_batch_size(count, self._full_batch)
        padded = np.concatenate([images, np.zeros((size - count, *images.shape[1:]), images.dtype)])
        with translate_memory_errors(count):
            key = (size, padded.dtype.name)
            if key not in self._programs:
                self._programs[key] = self._trace(size, padded.dtype).compile()
            outputs = jax.device_get(self._programs[key](self._values, padded))
        return [output[:count] for output in outputs]

    def _trace(self, size: int, dtype: Any) -> Any:
        side = self.bundle.recipe.input_size_px
        return self._function.lower(self._values, jax.ShapeDtypeStruct((size, side, side, 3), dtype))


def list_batch_sizes(full_batch: int) -> list[int]:
    """Return 1, 2, 4, ... below the size of a full batch, and that size."""
    return [2**power for power in range((full_batch - 1).bit_length())] + [full_batch]


def pad_batch_size(count: int, full_batch: int) -> int:
    """Return the compiled size for a batch of `count` images: the next power of two, or a full batch."""
    size: int = 1 << (count - 1).bit_length()
    return min(size, full_batch) if count <= full_batch else size


@contextmanager
def translate_memory_errors(batch_size: int) -> Iterator[None]:
    """Translate XLA's RESOURCE_EXHAUSTED into AcceleratorMemoryError, naming the batch size."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise AcceleratorMemoryError(f"a batch of {batch_size} images does not fit the device's memory") from error
