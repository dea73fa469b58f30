"""Grade and explain batches with TensorFlow, on a GPU if there is one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np
import structlog
import tensorflow as tf
from numpy.typing import NDArray

from worker.core.errors import AcceleratorMemoryError
from worker.core.machine import processor_name, quota_cores
from worker.core.predictions import ModelInput
from worker.core.vocabulary import Precision
from worker.model.bundle.bundle import Bundle
from worker.model.engines.batch_io import blank_images, stack_images, validate_images
from worker.model.engines.device_options import DeviceOptions
from worker.model.engines.keras_engine import KerasEngine
from worker.model.engines.protocol import EngineDescription
from worker.model.network.build import FloatPrecision, load_network
from worker.model.network.graph import build_image_function

TF32_SINCE = (8, 0)
"""Compute capability of the first GPUs with TF32."""

log = structlog.get_logger(__name__)


class TensorFlowEngine(KerasEngine):
    """An `Engine` with one graph, traced once for all batch sizes."""

    def __init__(
        self,
        bundle: Bundle,
        precision: FloatPrecision | None = None,
        options: DeviceOptions = DeviceOptions(),  # noqa: B008 - it is frozen
    ) -> None:
        """precision: None is float32, or TF32 on GPUs whose default it is; float32 turns TF32 off for the process."""
        self.bundle = bundle
        if precision == "float32":
            tf.config.experimental.enable_tensor_float_32_execution(enabled=False)
        description = _claim_device(options)
        self.description = (
            replace(description, precision=Precision.BFLOAT16) if precision == "bfloat16" else description
        )
        side = bundle.recipe.input_size_px
        self._graph: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]] = tf.function(
            build_image_function(bundle, load_network(bundle, precision or "float32")),
            # There is no Python control flow to convert, and the conversion leaves files in the temporary folder.
            autograph=False,
            input_signature=[tf.TensorSpec((None, side, side, 3), tf.float32), tf.TensorSpec((), tf.float32)],
        )

    def warm_up(self, batch_size: int) -> None:
        """See `Engine.warm_up`."""
        self.predict(blank_images(self.bundle.recipe.input_size_px, batch_size))

    def _run(self, enhanced: Sequence[ModelInput]) -> list[NDArray[np.float32]]:
        images, white = stack_images(validate_images(enhanced, self.bundle.recipe.input_size_px))
        with translate_memory_errors(len(enhanced)):
            outputs = self._graph(tf.cast(images, tf.float32), tf.constant(white, tf.float32))
            return [output.numpy() for output in outputs]


@contextmanager
def translate_memory_errors(batch_size: int) -> Iterator[None]:
    """Translate TensorFlow's ResourceExhaustedError into AcceleratorMemoryError, naming the batch size."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise AcceleratorMemoryError(f"a batch of {batch_size} images does not fit the device's memory") from error


def _claim_device(options: DeviceOptions) -> EngineDescription:
    """Describe the device. Without a limit a GPU's memory is allocated as needed: others may use the GPU, too."""
    _limit_threads()
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        if options.memory_mb is not None:
            if not tf.config.get_logical_device_configuration(gpu):
                share = tf.config.LogicalDeviceConfiguration(memory_limit=options.memory_mb)
                tf.config.set_logical_device_configuration(gpu, [share])
        elif not tf.config.experimental.get_memory_growth(gpu):
            tf.config.experimental.set_memory_growth(gpu, enable=True)
    libraries = {"keras": tf.keras.__version__, "tensorflow": tf.__version__}
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        rounds = (
            details.get("compute_capability", (0, 0)) >= TF32_SINCE
            and tf.config.experimental.tensor_float_32_execution_enabled()
        )
        precision = Precision.TF32 if rounds else Precision.FLOAT32
        return EngineDescription("tensorflow", precision, details.get("device_name", gpus[0].name), libraries)
    if tf.test.is_built_with_cuda():
        log.warning("no_gpu", detail="TensorFlow supports GPUs but finds none; it runs on the CPU")
    return EngineDescription("tensorflow", Precision.FLOAT32, processor_name(), libraries)


def _limit_threads() -> None:
    if (cores := quota_cores()) is None or tf.config.threading.get_intra_op_parallelism_threads():
        return
    with suppress(RuntimeError):  # this process has run an operation before, and keeps its threads
        tf.config.threading.set_intra_op_parallelism_threads(cores)
        tf.config.threading.set_inter_op_parallelism_threads(cores)
