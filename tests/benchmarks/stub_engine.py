"""What can a worker feed an engine? A stub sleeps as a device of 2,000 images/s would, on input that is ready.

    python -m tests.benchmarks.stub_engine [--images N] [--rate IMAGES_PER_S]

The input is an `.npy` stack, so nothing is decoded; overlays are drawn, encoded, uploaded and settled as ever. Beside
the share of time in which the stub was busy stands the share that the cores allow: their number, over the processor
time that an image costs, over the stub's rate.
"""

import argparse
import os
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from tests.benchmarks.contender import versions_of
from tests.benchmarks.processor_time import server_pids, used_s
from tests.benchmarks.results import as_table, describe_machine, write_section
from tests.benchmarks.sending import Producer
from tests.benchmarks.site import open_site
from worker.core.predictions import Prediction
from worker.core.settings import parse_settings
from worker.core.uris import file_uri
from worker.model.bundle.bundle import Bundle

BUSY = 0.9
PACKAGES = ("celery", "kombu", "psycopg", "opencv-python-headless")


class StubEngine:
    """An `Engine` that sleeps, and counts for how long."""

    device = "stub"

    def __init__(self, bundle: Bundle, rate: float) -> None:
        self.bundle = bundle
        self.busy_s = 0.0
        self._rate = rate
        self._answer = Prediction(np.array([1, 1, 0.9, 0.1, 0], np.float32), np.eye(7, dtype=np.float32))

    def warm_up(self, batch_size: int) -> None:
        """Nothing is cold."""

    def predict(self, enhanced: Sequence[np.ndarray]) -> list[Prediction]:
        """The same for each."""
        began = time.perf_counter()
        time.sleep(len(enhanced) / self._rate)
        self.busy_s += time.perf_counter() - began
        return [self._answer] * len(enhanced)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--rate", type=float, default=2000.0)
    options = parser.parse_args()
    with open_site() as site:
        stack_file = site.scratch / "stack.npy"
        pictures = np.random.default_rng(0).integers(0, 256, (64, 224, 224, 3), dtype=np.uint8)
        np.save(stack_file, np.concatenate([pictures] * -(-options.images // len(pictures))))
        uris = [f"{file_uri(stack_file)}#{number}" for number in range(options.images)]
        print(measure(uris, options.rate))


def measure(uris: list[str], rate: float) -> str:
    """One worker in this process, one round; the table, which is written to RESULTS.md as well."""
    # They read the settings.
    from worker import app as application
    from worker.inference import runtime

    engines: list[StubEngine] = []

    def make_stub(_name: object, bundle: Bundle) -> Any:
        engines.append(StubEngine(bundle, rate))
        return engines[0]

    runtime.make_engine = make_stub  # type: ignore[attr-defined]
    settings = parse_settings()
    node = application.app.Worker(pool="threads", concurrency=settings.concurrency, loglevel="WARNING", quiet=True)
    thread = threading.Thread(target=node.start, daemon=True)
    thread.start()
    producer = Producer()
    producer.grade(uris[:256])
    busy_s, spent_s, servers_s = engines[0].busy_s, time.process_time(), used_s(server_pids())
    seconds = producer.grade(uris)
    busy = (engines[0].busy_s - busy_s) / seconds
    own_ms = (time.process_time() - spent_s) / len(uris) * 1000
    servers_ms = (used_s(server_pids()) - servers_s) / len(uris) * 1000
    node.stop()
    thread.join(30)
    cores = os.cpu_count() or 1
    bound = cores / (own_ms + servers_ms) * 1000
    store = urlsplit(settings.storage_url).scheme
    rows = [
        ("images/s", f"{len(uris) / seconds:.0f}", ""),
        ("engine busy", f"{busy:.1%}", f"> {BUSY:.0%}"),
        ("processor time of worker and producer, ms an image", f"{own_ms:.2f}", ""),
        ("processor time of the servers, ms an image", f"{servers_ms:.2f}", ""),
        (f"images/s that {cores} cores allow at that cost", f"{bound:.0f}", ""),
        ("engine busy that they allow", f"{min(1.0, bound / rate):.1%}", ""),
        (f"cores for {rate:,.0f} images/s", f"{rate * (own_ms + servers_ms) / 1000:.0f}", ""),
    ]
    body = "\n\n".join(
        [
            "## Stub engine",
            f"{len(uris)} entries of a stack of 224 px, an engine that sleeps as one of {rate:,.0f} images/s, overlays "
            f"on `{store}`, rows on PostgreSQL, all on this machine.",
            f"Command: `python -m tests.benchmarks.stub_engine`. Machine: {describe_machine()}.\n"
            f"Versions: {versions_of(PACKAGES)}.",
            as_table(("", "measured", "target"), rows),
        ]
    )
    write_section("stub engine", body)
    return body


if __name__ == "__main__":
    main()
