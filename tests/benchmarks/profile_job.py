"""Where the whole job's processor time goes: by process, and by function of the worker and its decoders.

    python -m tests.benchmarks.profile_job [--images N] [--title TEXT]

Needs py-spy, which samples the worker and its decoders from outside while they grade full-size photographs.
"""

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil

from tests.benchmarks.contenders import our_worker
from tests.benchmarks.results import as_table, describe_machine, write_section
from tests.benchmarks.site import open_site
from tests.integration.processes import FUNDUS

SAMPLES_PER_S = 50
LISTED = 12
OWN = ("(worker/", "(producer/")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--title", default="Profile")
    options = parser.parse_args()
    with open_site() as site:
        uris = site.upload_photographs(options.images)
        with our_worker(uris, site.scratch / "worker.log") as work:
            work(options.images // 10)
            before, began = processor_s(), time.perf_counter()
            seconds = work(options.images)
            wall_s = time.perf_counter() - began
            after = processor_s()
            functions = sampled(work, options.images, site.scratch / "stacks")
        costs = {name: (after[name] - before.get(name, 0.0)) / options.images * 1000 for name in after}
        print(report(options.title, options.images, options.images / seconds, wall_s, costs, functions))


def processor_s() -> Counter[str]:
    """Seconds of processor time of this process's descendants, by what they are."""
    spent: Counter[str] = Counter()
    for process in psutil.Process().children(recursive=True):
        times, words = process.cpu_times(), " ".join(process.cmdline())
        kind = {str(FUNDUS): "worker", "worker.imaging.sandbox.decoder_program": "decoders"}
        name = next((kind[mark] for mark in kind if mark in words), process.name())
        spent[name] += times.user + times.system
    return spent


def sampled(work: object, images: int, out: Path) -> Counter[str]:
    """Samples by the innermost function of ours, and what library it was in, of one more round."""
    (root,) = [child for child in psutil.Process().children() if str(FUNDUS) in child.cmdline()]
    spy = subprocess.Popen(
        [
            Path(sys.executable).with_name("py-spy"),
            *("record", "--pid", str(root.pid), "--subprocesses", "--nonblocking", "--rate", str(SAMPLES_PER_S)),
            *("--format", "raw", "--output", str(out)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert callable(work)
    work(images)
    spy.send_signal(2)
    spy.wait(60)
    found: Counter[str] = Counter()
    for line in out.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame for frame in stack.split(";") if "(" in frame]
        own = next((frame for frame in reversed(frames) if any(mark in frame for mark in OWN)), None)
        if own is not None:
            found[own.rpartition(":")[0].replace(" (", ", ")] += int(count)
    return found


def report(
    title: str, images: int, rate: float, wall_s: float, costs: dict[str, float], functions: Counter[str]
) -> str:
    """The tables, which are written to RESULTS.md as well."""
    busy = sum(costs.values())
    cores = os.cpu_count() or 1
    total = functions.total()
    processes = [(name, f"{ms:.1f}") for name, ms in sorted(costs.items(), key=lambda one: -one[1]) if ms >= 0.05]
    body = "\n\n".join(
        [
            f"## {title}",
            f"The whole job, {images} photographs of 4288 x 2848 at {rate:.1f} images/s: {busy:.1f} ms of processor "
            f"time an image, of {wall_s / images * 1000 * cores:.1f} that {cores} cores have.",
            f"Command: `python -m tests.benchmarks.profile_job`. Machine: {describe_machine()}.",
            as_table(("process", "ms of processor time an image"), processes),
            "The innermost functions of ours, of all samples in which a thread of worker or decoders was at work:",
            as_table(
                ("function", "share"),
                [(name, f"{count / total:.0%}") for name, count in functions.most_common(LISTED)],
            ),
        ]
    )
    write_section(title.lower(), body)
    return body


if __name__ == "__main__":
    main()
