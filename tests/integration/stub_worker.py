"""`fundus worker` with a simulated device, which takes a fixed time per image and no CPU time.

STUB_IMAGE_S: seconds per image. STUB_FOLDER: folder in which each device counts its images in a file with its name.
STUB_GATE: file without which no device finishes a batch; none by default.
"""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from producer.cli import main
from worker.core.predictions import Prediction
from worker.core.vocabulary import Precision
from worker.model.bundle.bundle import Bundle
from worker.model.engines.protocol import EngineDescription
from worker.model.engines.self_test import StartedEngine

IMAGE_S = float(os.environ["STUB_IMAGE_S"])
GATE = Path(os.environ["STUB_GATE"]) if "STUB_GATE" in os.environ else None
DEVICE = f"device-{os.environ['CUDA_VISIBLE_DEVICES']}"


class StubEngine:
    """Predicts moderate DR with saliency in the upper left corner for every image."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.description = EngineDescription("stub", Precision.FLOAT32, DEVICE, {})
        self._count = (Path(os.environ["STUB_FOLDER"]) / DEVICE).open("a", buffering=1)

    def warm_up(self, batch_size: int) -> None:
        pass

    def predict(self, enhanced: Sequence[Any]) -> list[Prediction]:
        while GATE is not None and not GATE.exists():
            time.sleep(0.01)
        time.sleep(IMAGE_S * len(enhanced))
        self._count.write("x" * len(enhanced) + "\n")
        saliency = np.zeros((7, 7), np.float32)
        saliency[0, 0] = 1
        return [Prediction(np.array([1, 0.9, 0.8, 0.2, 0.1], np.float32), saliency) for _ in enhanced]


if __name__ == "__main__":
    from worker.commands import worker
    from worker.inference import runtime

    def start_stub(_name: object, _precision: object, bundle: Bundle, _golden: object, **others: Any) -> StartedEngine:
        return StartedEngine(StubEngine(bundle), None, others["batch_size"])

    runtime.start_engine = start_stub
    worker.PROGRAM = (sys.executable, "-m", "tests.integration.stub_worker")
    sys.argv = ["fundus", "worker", *sys.argv[1:]]
    sys.exit(main())
