"""Latency of live images while bulk saturates the worker, and the bulk throughput that they cost.

    python -m tests.benchmarks.live_latency [--images N] [--rounds N] [--every SECONDS]

Rounds with and without live images alternate. The batch time is the time in which the saturated worker grades a batch.
"""

import argparse
import threading
import time

import numpy as np

from tests.benchmarks.engine_process import versions_of
from tests.benchmarks.producer_client import ProducerClient
from tests.benchmarks.results import as_table, describe_machine, format_range, write_section
from tests.benchmarks.testbed import open_testbed
from tests.integration.processes import worker
from worker.core.settings import parse_settings
from worker.core.vocabulary import Queue

MAX_BATCH_TIMES = 3
MAX_LOSS = 0.05
PACKAGES = ("celery", "kombu", "openvino")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=float, default=2.0)
    options = parser.parse_args()
    with open_testbed() as testbed:
        uris = testbed.upload_photographs(options.images)
        producer = ProducerClient()
        with worker({"FUNDUS_LOG_LEVEL": "info"}, testbed.scratch / "worker.log"):
            producer.grade(uris[:64])
            bulk_rates, mixed_rates, latencies = [], [], []
            for _ in range(options.rounds):
                bulk_rates.append(len(uris) / producer.grade(uris))
                seconds, measured = grade_with_live(producer, uris, options.every)
                mixed_rates.append(len(uris) / seconds)
                latencies += measured
                print(f"{bulk_rates[-1]:.2f} {mixed_rates[-1]:.2f} images/s, {len(measured)} live", flush=True)
        print(report(bulk_rates, mixed_rates, latencies, options.every))


def grade_with_live(producer: ProducerClient, uris: list[str], every_s: float) -> tuple[float, list[float]]:
    """Grade a bulk run and live images. Returns the seconds of the bulk run and of each live image during it."""
    seconds: list[float] = []
    thread = threading.Thread(target=lambda: seconds.append(producer.grade(uris)))
    thread.start()
    time.sleep(every_s)  # until the worker is saturated
    latencies = []
    while thread.is_alive():
        sent = time.perf_counter()
        latency = producer.grade([uris[len(latencies) % len(uris)]], Queue.LIVE)
        if thread.is_alive():  # otherwise bulk ended first
            latencies.append(latency)
        thread.join(max(0.0, sent + every_s - time.perf_counter()))
    return seconds[0], latencies


def report(bulk_rates: list[float], mixed_rates: list[float], latencies: list[float], every_s: float) -> str:
    """Format the table and write it to RESULTS.md."""
    batch_s = parse_settings().max_batch_size / float(np.median(bulk_rates))
    p50, p95, maximum = np.percentile(latencies, [50, 95, 100])
    losses = [1 - mixed / bulk for bulk, mixed in zip(bulk_rates, mixed_rates, strict=True)]
    rows = [
        ("bulk alone, images/s", format_range(bulk_rates), ""),
        (f"bulk with a live image every {every_s:g} s, images/s", format_range(mixed_rates), ""),
        ("bulk throughput lost", format_range(losses, 3), f"< {MAX_LOSS}"),
        ("batch time, s", f"{batch_s:.2f}", ""),
        (f"live, enqueue to settled row, median of {len(latencies)}, s", f"{p50:.2f}", ""),
        ("live, 95th percentile, s", f"{p95:.2f}", ""),
        ("live, maximum, s", f"{maximum:.2f}", ""),
        ("95th percentile / batch time", f"{p95 / batch_s:.2f}", f"<= {MAX_BATCH_TIMES}"),
    ]
    body = "\n\n".join(
        [
            "## Live queue latency",
            "Photographs of 4288 x 2848 in S3; bulk saturates one worker with default settings. The batch time is the "
            "time in which it grades a full batch. The bulk throughput lost includes the work on the live images.",
            f"Command: `python -m tests.benchmarks.live_latency`. Machine: {describe_machine()}.\n"
            f"Versions: {versions_of(PACKAGES)}.",
            as_table(("", "measured", "target"), rows),
        ]
    )
    write_section("live queue latency", body)
    return body


if __name__ == "__main__":
    main()
