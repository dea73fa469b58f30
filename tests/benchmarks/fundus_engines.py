"""The project's engines, called as the batcher calls them: a list of images in, validated predictions out."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.engine_process import EngineOutput
from worker.model.bundle.bundle import Bundle
from worker.model.engines.factory import make_engine
from worker.model.engines.protocol import Engine


def load_tensorflow(bundle: Bundle, pictures: NDArray[np.uint8]) -> Callable[[], EngineOutput]:
    """Load TensorFlow, float32 on a CPU."""
    return _make_run(make_engine("tensorflow", bundle), pictures)


def load_jax(bundle: Bundle, pictures: NDArray[np.uint8]) -> Callable[[], EngineOutput]:
    """Load JAX, float32 on a CPU."""
    return _make_run(make_engine("jax", bundle), pictures)


def load_openvino(bundle: Bundle, pictures: NDArray[np.uint8]) -> Callable[[], EngineOutput]:
    """Load OpenVINO, bfloat16 where the CPU supports it."""
    return _make_run(make_engine("openvino", bundle), pictures)


def load_openvino_int8(bundle: Bundle, pictures: NDArray[np.uint8]) -> Callable[[], EngineOutput]:
    """Load OpenVINO with most convolutions in 8 bits."""
    return _make_run(make_engine("openvino-int8", bundle), pictures)


def _make_run(engine: Engine, pictures: NDArray[np.uint8]) -> Callable[[], EngineOutput]:
    engine.warm_up(len(pictures))
    batch = list(pictures)

    def run() -> EngineOutput:
        predictions = engine.predict(batch)
        return np.stack([p.probabilities for p in predictions]), np.stack([p.saliency for p in predictions])

    return run
