"""`fundus worker` with an engine that takes no time, which reports on request how much CPU time its threads have used.

PROCESS_COST_FOLDER: folder in which each process listens on a socket named by its process id; each connection gets the
CPU seconds so far by part, and the number of images.
"""

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import wraps
from multiprocessing.connection import Listener
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from producer.cli import main
from worker.core.predictions import Evidence, Prediction
from worker.core.vocabulary import Precision
from worker.imaging.sandbox.pool import DECODER_PROGRAM
from worker.inference import image_grader, runtime
from worker.model.bundle.ensemble import Model
from worker.model.engines.protocol import EngineDescription
from worker.model.engines.self_test import StartedEngine

DECODER = DECODER_PROGRAM[-1]
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
THREADS = {"transfer": "transfer", "pipeline": "event loop", "batcher": "batcher", "decoder": "decoder threads"}
"""Beginnings of threads' names, and the parts of the report; other threads lease and settle."""

spent_s: Counter[str] = Counter()
images = 0


class InstantEngine:
    """Predicts moderate DR with the same map for every image, at once."""

    description = EngineDescription("stub", Precision.FLOAT32, "stub", {})

    def __init__(self, bundle: Model) -> None:
        self.bundle = bundle
        saliency = np.random.default_rng(0).random((10, 10), np.float32)
        self._prediction = Prediction(np.array([1, 1, 0.9, 0.1, 0], np.float32), saliency, Evidence(2.0, 2.0))

    def warm_up(self, batch_size: int) -> None:
        """Nothing to do."""

    def predict(self, enhanced: Sequence[Any]) -> list[Prediction]:
        """Return the same prediction for each image."""
        global images
        images += len(enhanced)
        return [self._prediction] * len(enhanced)


def timed(work: Callable[..., Any], part: str) -> Callable[..., Any]:
    """Count the CPU time of a function's thread as that of a part."""

    @wraps(work)
    def run(*arguments: Any, **named: Any) -> Any:
        started = time.thread_time()
        try:
            return work(*arguments, **named)
        finally:
            spent_s[part] += time.thread_time() - started

    return run


def read_costs() -> tuple[int, dict[str, float]]:
    """Return the number of images, and CPU seconds by part; `all` is this process, `decoding` its decoders."""
    costs = Counter(spent_s)
    for thread in threading.enumerate():
        part = next((part for name, part in THREADS.items() if thread.name.startswith(name)), "lease and settle")
        costs[part] += _thread_time_s(thread.native_id)
    costs["transfer"] -= spent_s.total()
    costs["all"] = time.process_time()
    decoders = [one for one in psutil.Process().children() if DECODER in one.cmdline()]
    costs["decoding"] = sum(sum(one.cpu_times()[:2]) for one in decoders)
    return images, dict(costs)


def serve_costs(folder: Path) -> None:
    """Answer each connection with the costs so far."""
    with Listener(str(folder / f"{os.getpid()}.socket")) as listener:
        while True:
            with listener.accept() as connection:
                connection.send(read_costs())


def _thread_time_s(native_id: int | None) -> float:
    fields = Path(f"/proc/self/task/{native_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


if __name__ == "__main__":
    from worker.commands import worker

    def start_stub(_name: object, _precision: object, bundle: Model, _golden: object, **others: Any) -> StartedEngine:
        return StartedEngine(InstantEngine(bundle), None, others["batch_size"])  # type: ignore[arg-type]

    runtime.start_engine = start_stub
    worker.PROGRAM = (sys.executable, "-m", "tests.benchmarks.process_cost_worker")
    for method, part in (("_fetch", "fetch"), ("_prepare_stack_entry", "fetch"), ("_render", "draw and encode"),
                         ("_upload", "upload")):  # fmt: skip
        setattr(image_grader.ImageGrader, method, timed(getattr(image_grader.ImageGrader, method), part))
    threading.Thread(target=serve_costs, args=(Path(os.environ["PROCESS_COST_FOLDER"]),), daemon=True).start()
    sys.argv = ["fundus", "worker", *sys.argv[1:]]
    sys.exit(main())
