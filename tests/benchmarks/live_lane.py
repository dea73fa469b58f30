"""A live image while bulk saturates the worker: its time from enqueue to settled row, and what bulk loses.

    python -m tests.benchmarks.live_lane [--images N] [--rounds N] [--every SECONDS]

Rounds with and without live images in turn. A batch time is the time in which the saturated worker grades one batch.
"""

import argparse
import threading
import time

import numpy as np

from tests.benchmarks.contender import versions_of
from tests.benchmarks.results import as_table, describe_machine, write_section
from tests.benchmarks.sending import Producer
from tests.benchmarks.site import open_site
from tests.benchmarks.spread import spread
from tests.integration.processes import worker
from worker.core.settings import parse_settings
from worker.core.vocabulary import Queue

BATCH_TIMES = 3
LOSS = 0.05
PACKAGES = ("celery", "kombu", "openvino")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=float, default=2.0)
    options = parser.parse_args()
    with open_site() as site:
        uris = site.upload_photographs(options.images)
        producer = Producer()
        with worker({"FUNDUS_LOG_LEVEL": "info"}, site.scratch / "worker.log"):
            producer.grade(uris[:64])
            alone, beside, waits = [], [], []
            for _ in range(options.rounds):
                alone.append(len(uris) / producer.grade(uris))
                seconds, taken = with_live(producer, uris, options.every)
                beside.append(len(uris) / seconds)
                waits += taken
                print(f"{alone[-1]:.2f} {beside[-1]:.2f} images/s, {len(taken)} live", flush=True)
        print(report(alone, beside, waits, options.every))


def with_live(producer: Producer, uris: list[str], every_s: float) -> tuple[float, list[float]]:
    """Seconds that bulk took, and those of each live image that was sent while it ran."""
    seconds: list[float] = []
    thread = threading.Thread(target=lambda: seconds.append(producer.grade(uris)))
    thread.start()
    time.sleep(every_s)  # until the worker is full
    waits = []
    while thread.is_alive():
        sent = time.perf_counter()
        took = producer.grade([uris[len(waits) % len(uris)]], Queue.LIVE)
        if thread.is_alive():  # one that outlived bulk had an easy end
            waits.append(took)
        thread.join(max(0.0, sent + every_s - time.perf_counter()))
    return seconds[0], waits


def report(alone: list[float], beside: list[float], waits: list[float], every_s: float) -> str:
    """The table, which is written to RESULTS.md as well."""
    batch_s = parse_settings().max_batch_size / float(np.median(alone))
    p50, p95, worst = np.percentile(waits, [50, 95, 100])
    losses = [1 - b / a for a, b in zip(alone, beside, strict=True)]
    rows = [
        ("bulk alone, images/s", spread(alone), ""),
        (f"bulk beside a live image every {every_s:g} s, images/s", spread(beside), ""),
        ("what bulk loses", spread(losses, 3), f"< {LOSS}"),
        ("batch time, s", f"{batch_s:.2f}", ""),
        (f"live, enqueue to settled row, median of {len(waits)}, s", f"{p50:.2f}", ""),
        ("the same, 95th percentile, s", f"{p95:.2f}", ""),
        ("the same, longest, s", f"{worst:.2f}", ""),
        ("95th percentile over batch time", f"{p95 / batch_s:.2f}", f"<= {BATCH_TIMES}"),
    ]
    body = "\n\n".join(
        [
            "## Live lane",
            "Photographs of 4288 x 2848 in S3; bulk saturates one worker with default settings. A batch time is the "
            "time in which it then grades a full batch. What bulk loses includes their share of the machine.",
            f"Command: `python -m tests.benchmarks.live_lane`. Machine: {describe_machine()}.\n"
            f"Versions: {versions_of(PACKAGES)}.",
            as_table(("", "measured", "target"), rows),
        ]
    )
    write_section("live lane", body)
    return body


if __name__ == "__main__":
    main()
