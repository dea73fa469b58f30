"""Resident memory of a worker and its decoding processes while it grades 20,000 images.

    python -m tests.benchmarks.memory [--images N]

The images are the shipped samples, repeated under different image ids.
"""

import argparse
import itertools
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from matplotlib.figure import Figure

from tests.benchmarks.engine_process import versions_of
from tests.benchmarks.producer_client import ProducerClient
from tests.benchmarks.results import as_table, describe_machine, write_section
from tests.benchmarks.testbed import open_testbed
from tests.integration.processes import FUNDUS, worker

SAMPLES = sorted((Path(__file__).parents[2] / "producer" / "demo" / "samples").glob("IDRiD*.jpg"))
PLOT = Path(__file__).with_name("memory.png")
SAMPLE_INTERVAL_S = 1.0
MARGIN = 0.05
PACKAGES = ("celery", "openvino", "opencv-python-headless")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    options = parser.parse_args()
    with open_testbed() as testbed:
        uris = [testbed.upload(sample.name, sample.read_bytes()) for sample in SAMPLES]
        producer = ProducerClient()
        with worker({"FUNDUS_LOG_LEVEL": "info"}, testbed.scratch / "worker.log"):
            samples: list[tuple[float, float]] = []
            stop = threading.Event()
            sampler = threading.Thread(target=sample_memory, args=(samples, stop))
            sampler.start()
            seconds = producer.grade(list(itertools.islice(itertools.cycle(uris), options.images)))
            stop.set()
            sampler.join()
        print(report(samples, options.images, options.images / seconds))


def sample_memory(samples: list[tuple[float, float]], stop: threading.Event) -> None:
    """Append seconds and resident MiB of the worker and its decoding processes until `stop` is set."""
    started = time.monotonic()
    (root,) = [child for child in psutil.Process().children() if str(FUNDUS) in child.cmdline()]
    while not stop.wait(SAMPLE_INTERVAL_S):
        processes = [root, *root.children(recursive=True)]
        samples.append((time.monotonic() - started, sum(one.memory_info().rss for one in processes) / 2**20))


def report(samples: list[tuple[float, float]], images: int, rate: float) -> str:
    """Format the table, draw the plot, and write both to RESULTS.md."""
    seconds, mib = np.array(samples).T
    quarters = [float(np.median(part)) for part in np.array_split(mib, 4)]
    drift = quarters[3] / quarters[1] - 1
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot(seconds / 60, mib)
    axes.set(xlabel="minutes", ylabel="MiB", ylim=(0, None), title=f"Resident memory of a worker, {images:,} images")
    figure.savefig(PLOT, dpi=100)
    rows = [(f"quarter {number}, MiB", f"{value:.0f}", "") for number, value in enumerate(quarters, start=1)]
    body = "\n\n".join(
        [
            "## Memory",
            f"One worker with default settings and its decoding processes grade {images:,} images at {rate:.1f} "
            "images/s. Median resident memory in each quarter of the run.",
            f"Command: `python -m tests.benchmarks.memory`. Machine: {describe_machine()}.\n"
            f"Versions: {versions_of(PACKAGES)}.",
            as_table(
                ("", "measured", "target"),
                [*rows, ("change from quarter 2 to quarter 4", f"{drift:+.1%}", "within 5%")],
            ),
            f"![Memory over time]({PLOT.name})",
        ]
    )
    write_section("memory", body)
    return body


if __name__ == "__main__":
    main()
