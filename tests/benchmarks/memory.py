"""Does a worker's memory stay flat? Its resident memory, decoders included, while it grades 20,000 images.

    python -m tests.benchmarks.memory [--images N]

The images are the shipped samples, over and over, each under a name of its own.
"""

import argparse
import itertools
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from matplotlib.figure import Figure

from tests.benchmarks.contender import versions_of
from tests.benchmarks.results import as_table, describe_machine, write_section
from tests.benchmarks.sending import Producer
from tests.benchmarks.site import open_site
from tests.integration.processes import FUNDUS, worker

SAMPLES = sorted((Path(__file__).parents[2] / "producer" / "demo" / "samples").glob("IDRiD*.jpg"))
PLOT = Path(__file__).with_name("memory.png")
LOOK_EVERY_S = 1.0
MARGIN = 0.05
PACKAGES = ("celery", "openvino", "opencv-python-headless")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    options = parser.parse_args()
    with open_site() as site:
        uris = [site.upload(sample.name, sample.read_bytes()) for sample in SAMPLES]
        producer = Producer()
        with worker({"FUNDUS_LOG_LEVEL": "info"}, site.scratch / "worker.log"):
            looks: list[tuple[float, float]] = []
            over = threading.Event()
            watching = threading.Thread(target=watch, args=(looks, over))
            watching.start()
            seconds = producer.grade(list(itertools.islice(itertools.cycle(uris), options.images)))
            over.set()
            watching.join()
        print(report(looks, options.images, options.images / seconds))


def watch(looks: list[tuple[float, float]], over: threading.Event) -> None:
    """Note the seconds and the MiB of the worker and its decoders, until told that it is over."""
    began = time.monotonic()
    (root,) = [child for child in psutil.Process().children() if str(FUNDUS) in child.cmdline()]
    while not over.wait(LOOK_EVERY_S):
        family = [root, *root.children(recursive=True)]
        looks.append((time.monotonic() - began, sum(one.memory_info().rss for one in family) / 2**20))


def report(looks: list[tuple[float, float]], images: int, rate: float) -> str:
    """Table and plot, which are written to RESULTS.md as well."""
    seconds, mib = np.array(looks).T
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
            f"One worker with default settings, its decoding processes included, grades {images:,} images at "
            f"{rate:.1f} images/s; the median of each quarter of that time.",
            f"Command: `python -m tests.benchmarks.memory`. Machine: {describe_machine()}.\n"
            f"Versions: {versions_of(PACKAGES)}.",
            as_table(
                ("", "measured", "target"), [*rows, ("last quarter against the second", f"{drift:+.1%}", "within 5%")]
            ),
            f"![Memory over time]({PLOT.name})",
        ]
    )
    write_section("memory", body)
    return body


if __name__ == "__main__":
    main()
