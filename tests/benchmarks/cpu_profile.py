"""CPU profile of an end-to-end run: CPU time by process, and by function of the worker and its decoding processes.

    python -m tests.benchmarks.cpu_profile [--images N] [--title TEXT]

Needs py-spy, which samples the processes from outside while they grade full-size photographs.
"""

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil

from tests.benchmarks.results import as_table, describe_machine, write_section
from tests.benchmarks.systems import GradeRound, fundus_system
from tests.benchmarks.testbed import open_testbed
from tests.integration.processes import FUNDUS

SAMPLES_PER_S = 50
MAX_FUNCTIONS = 12
PROJECT_PATHS = ("(worker/", "(producer/")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--title", default="CPU profile")
    options = parser.parse_args()
    with open_testbed() as testbed:
        uris = testbed.upload_photographs(options.images)
        with fundus_system(uris, testbed.scratch / "worker.log") as grade:
            grade(options.images // 10)
            before, started = cpu_time_by_role(), time.perf_counter()
            seconds = grade(options.images)
            wall_s = time.perf_counter() - started
            after = cpu_time_by_role()
            functions = sample_functions(grade, options.images, testbed.scratch / "stacks")
        costs = {name: (after[name] - before.get(name, 0.0)) / options.images * 1000 for name in after}
        print(report(options.title, options.images, options.images / seconds, wall_s, costs, functions))


def cpu_time_by_role() -> Counter[str]:
    """CPU seconds of this process's descendants by role."""
    spent: Counter[str] = Counter()
    for process in psutil.Process().children(recursive=True):
        times, words = process.cpu_times(), " ".join(process.cmdline())
        kind = {str(FUNDUS): "worker", "worker.imaging.sandbox.decoder_program": "decoders"}
        name = next((kind[mark] for mark in kind if mark in words), process.name())
        spent[name] += times.user + times.system
    return spent


def sample_functions(grade: GradeRound, images: int, out: Path) -> Counter[str]:
    """Profile one more round. Returns samples by innermost project function and its file."""
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
    grade(images)
    spy.send_signal(2)
    spy.wait(60)
    found: Counter[str] = Counter()
    for line in out.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame for frame in stack.split(";") if "(" in frame]
        function = next((frame for frame in reversed(frames) if any(mark in frame for mark in PROJECT_PATHS)), None)
        if function is not None:
            found[function.rpartition(":")[0].replace(" (", ", ")] += int(count)
    return found


def report(
    title: str, images: int, rate: float, wall_s: float, costs: dict[str, float], functions: Counter[str]
) -> str:
    """Format the tables and write them to RESULTS.md."""
    busy = sum(costs.values())
    cores = os.cpu_count() or 1
    total = functions.total()
    processes = [(name, f"{ms:.1f}") for name, ms in sorted(costs.items(), key=lambda one: -one[1]) if ms >= 0.05]
    body = "\n\n".join(
        [
            f"## {title}",
            f"End to end, {images} photographs of 4288 x 2848 at {rate:.1f} images/s: {busy:.1f} ms of CPU time per "
            f"image, of {wall_s / images * 1000 * cores:.1f} ms available on {cores} cores.",
            f"Command: `python -m tests.benchmarks.cpu_profile`. Machine: {describe_machine()}.",
            as_table(("process", "CPU time, ms per image"), processes),
            "Innermost project functions, as a share of the samples of busy threads (worker and decoding processes):",
            as_table(
                ("function", "share"),
                [(name, f"{count / total:.0%}") for name, count in functions.most_common(MAX_FUNCTIONS)],
            ),
        ]
    )
    write_section(title.lower(), body)
    return body


if __name__ == "__main__":
    main()
