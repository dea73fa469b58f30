"""Our engines as contenders: a list of pictures as the batcher gives it, to checked predictions."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.contender import Answer
from worker.model.bundle.bundle import Bundle
from worker.model.engines.factory import make_engine
from worker.model.engines.protocol import Engine


def load_tensorflow(bundle: Bundle, pictures: NDArray[np.uint8]) -> Callable[[], Answer]:
    """float32 on a CPU."""
    return _timed(make_engine("tensorflow", bundle), pictures)


def load_openvino(bundle: Bundle, pictures: NDArray[np.uint8]) -> Callable[[], Answer]:
    """bfloat16 where the processor has it."""
    return _timed(make_engine("openvino", bundle), pictures)


def load_openvino_int8(bundle: Bundle, pictures: NDArray[np.uint8]) -> Callable[[], Answer]:
    """Most convolutions in 8 bits, the rest as `load_openvino`."""
    return _timed(make_engine("openvino-int8", bundle), pictures)


def _timed(engine: Engine, pictures: NDArray[np.uint8]) -> Callable[[], Answer]:
    engine.warm_up(len(pictures))
    batch = list(pictures)

    def run() -> Answer:
        predictions = engine.predict(batch)
        return np.stack([p.probabilities for p in predictions]), np.stack([p.saliency for p in predictions])

    return run
