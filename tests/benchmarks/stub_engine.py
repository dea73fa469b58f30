"""Throughput of a worker with a stub engine, which sleeps as long as a device of 2,000 images/s would compute.

    python -m tests.benchmarks.stub_engine [--images N] [--rate IMAGES_PER_S]

The input is an `.npy` stack, so nothing is decoded; overlays are rendered, encoded and uploaded, and rows settled, as
usual. The upper bound of images/s is the number of cores divided by the CPU time of one image.
"""

import argparse
import os
import threading
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import numpy as np

from tests.benchmarks.cpu_time import cpu_time_s, server_pids
from tests.benchmarks.engine_process import versions_of
from tests.benchmarks.producer_client import ProducerClient
from tests.benchmarks.results import as_table, describe_machine, write_section
from tests.benchmarks.testbed import open_testbed
from worker.core.predictions import Prediction
from worker.core.settings import parse_settings
from worker.core.uris import file_uri
from worker.core.vocabulary import Precision
from worker.model.bundle.bundle import Bundle
from worker.model.engines.protocol import EngineDescription
from worker.model.engines.self_test import StartedEngine

MIN_BUSY = 0.9
PACKAGES = ("celery", "kombu", "psycopg", "opencv-python-headless")


class StubEngine:
    """An Engine that sleeps and counts its busy time."""

    description = EngineDescription("stub", Precision.FLOAT32, "stub", {})

    def __init__(self, bundle: Bundle, rate: float) -> None:
        self.bundle = bundle
        self.busy_s = 0.0
        self._rate = rate
        self._prediction = Prediction(np.array([1, 1, 0.9, 0.1, 0], np.float32), np.eye(7, dtype=np.float32))

    def warm_up(self, batch_size: int) -> None:
        """Nothing to do."""

    def predict(self, enhanced: Sequence[np.ndarray]) -> list[Prediction]:
        """Return the same prediction for each image, after a sleep."""
        started = time.perf_counter()
        time.sleep(len(enhanced) / self._rate)
        self.busy_s += time.perf_counter() - started
        return [self._prediction] * len(enhanced)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--rate", type=float, default=2000.0)
    options = parser.parse_args()
    with open_testbed() as testbed:
        stack_file = testbed.scratch / "stack.npy"
        pictures = np.random.default_rng(0).integers(0, 256, (64, 224, 224, 3), dtype=np.uint8)
        np.save(stack_file, np.concatenate([pictures] * -(-options.images // len(pictures))))
        uris = [f"{file_uri(stack_file)}#{number}" for number in range(options.images)]
        print(measure(uris, options.rate))


def measure(uris: list[str], rate: float) -> str:
    """Run one worker in this process, format the table and write it to RESULTS.md."""
    # Imported here because they read the settings.
    from worker import app as application
    from worker.inference import runtime

    engines: list[StubEngine] = []

    def start_stub(_name: object, _precision: object, bundle: Bundle, _golden: object, **_: object) -> StartedEngine:
        engines.append(StubEngine(bundle, rate))
        return StartedEngine(engines[0], None, settings.max_batch_size)  # type: ignore[arg-type]

    runtime.start_engine = start_stub
    settings = parse_settings()
    node = application.app.Worker(pool="threads", concurrency=settings.concurrency, loglevel="WARNING", quiet=True)
    thread = threading.Thread(target=node.start, daemon=True)
    thread.start()
    producer = ProducerClient()
    producer.grade(uris[:256])
    busy_s, spent_s, servers_s = engines[0].busy_s, time.process_time(), cpu_time_s(server_pids())
    seconds = producer.grade(uris)
    busy = (engines[0].busy_s - busy_s) / seconds
    own_ms = (time.process_time() - spent_s) / len(uris) * 1000
    servers_ms = (cpu_time_s(server_pids()) - servers_s) / len(uris) * 1000
    node.stop()
    thread.join(30)
    cores = os.cpu_count() or 1
    bound = cores / (own_ms + servers_ms) * 1000
    store = urlsplit(settings.storage_url).scheme
    rows = [
        ("images/s", f"{len(uris) / seconds:.0f}", ""),
        ("engine busy", f"{busy:.1%}", f"> {MIN_BUSY:.0%}"),
        ("CPU time of worker and producer, ms per image", f"{own_ms:.2f}", ""),
        ("CPU time of the servers, ms per image", f"{servers_ms:.2f}", ""),
        (f"upper bound of {cores} cores, images/s", f"{bound:.0f}", ""),
        ("upper bound of engine busy", f"{min(1.0, bound / rate):.1%}", ""),
        (f"cores needed for {rate:,.0f} images/s", f"{rate * (own_ms + servers_ms) / 1000:.0f}", ""),
    ]
    body = "\n\n".join(
        [
            "## Stub engine",
            f"{len(uris)} stack entries of 224 px, a stub engine that sleeps like one of {rate:,.0f} images/s, "
            f"overlays on `{store}`, rows in PostgreSQL, all on this machine.",
            f"Command: `python -m tests.benchmarks.stub_engine`. Machine: {describe_machine()}.\n"
            f"Versions: {versions_of(PACKAGES)}.",
            as_table(("", "measured", "target"), rows),
        ]
    )
    write_section("stub engine", body)
    return body


if __name__ == "__main__":
    main()
