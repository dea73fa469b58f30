"""CPU time that worker processes themselves need for an image, by part, without engine and decoding processes.

    python -m tests.benchmarks.process_cost [--images N] [--rounds N] [--processes N ...] [--input full|small|stack]

The engine takes no time. What remains is what one interpreter does for each image, and so the most images that one
process can feed to a device of any speed. `stack` reads prepared pictures from a file and writes overlays to a folder:
neither decoding nor a store takes the cores from the worker processes. The cores, less what other programs use, bound
the images/s of all processes together.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Client
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from tests.benchmarks.cpu_time import cpu_time_s, machine_cpu_time_s, server_pids
from tests.benchmarks.engine_process import versions_of
from tests.benchmarks.photographs import full_size_jpegs
from tests.benchmarks.producer_client import ProducerClient
from tests.benchmarks.results import as_table, describe_machine, format_range, write_section
from tests.benchmarks.testbed import Testbed, open_testbed
from tests.integration.processes import READY, worker
from worker.core.settings import parse_settings
from worker.core.uris import file_uri
from worker.model.bundle.ensemble import load_model

PROGRAM = ("-m", "tests.benchmarks.process_cost_worker")
PARTS = (
    "fetch", "draw and encode", "upload", "transfer", "event loop", "batcher", "decoder threads", "lease and settle"
)  # fmt: skip
PACKAGES = ("boto3", "urllib3", "opencv-python-headless", "sqlalchemy")
NAMES = {"transfer": "threads of transfers, rest"}
SMALL_PX = 1024
"""Width of the small photographs; files of about 60 kB."""
DISTINCT = 40
POLL_S = 0.1
INPUTS = {
    "full": "photographs of 4288 x 2848 in S3",
    "small": f"photographs {SMALL_PX} px wide in S3",
    "stack": "entries of a stack, overlays in a folder",
}
TITLES = {"full": "Worker process", "small": "Worker process, small photographs", "stack": "Worker process, stack"}
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Round:
    """images/s of a run, and CPU milliseconds of the worker processes for an image, by part; `all` is their sum.

    others_ms: of servers and producer, for an image. foreign: cores that other programs used meanwhile.
    """

    rate: float
    parts_ms: dict[str, float]
    others_ms: float
    foreign: float

    @property
    def ceiling(self) -> float:
        """Most images/s of one worker process."""
        return 1000 / self.parts_ms["all"]

    @property
    def cores_bound(self) -> float:
        """Most images/s of the cores that other programs leave."""
        return (CORES - self.foreign) * 1000 / (self.parts_ms["all"] + self.parts_ms["decoding"] + self.others_ms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, nargs="+", default=[1])
    parser.add_argument("--input", choices=INPUTS, default="small")
    options = parser.parse_args()
    with open_testbed() as testbed:
        uris = prepare_input(options.input, options.images, testbed)
        results: dict[int, list[Round]] = {count: [] for count in options.processes}
        for _ in range(options.rounds):
            for count in options.processes:
                results[count].append(measure(uris, count, testbed.scratch))
                print(count, results[count][-1], flush=True)
    print(report(options.input, options.images, results))


def prepare_input(kind: str, images: int, testbed: Testbed) -> list[str]:
    """Upload photographs, or write a stack; return the URI of each image. They repeat after DISTINCT."""
    if kind == "stack":
        os.environ["FUNDUS_STORAGE_URL"] = file_uri(testbed.scratch / "overlays")
        side = load_model(parse_settings().model).recipe.input_size_px
        stack = testbed.scratch / "stack.npy"
        np.save(stack, np.stack([_shrink(data, side) for data in full_size_jpegs(DISTINCT)]))
        distinct = [f"{file_uri(stack)}#{number}" for number in range(DISTINCT)]
    elif kind == "small":
        encoded = (cv2.imencode(".jpg", _reduce(data, SMALL_PX))[1].tobytes() for data in full_size_jpegs(DISTINCT))
        distinct = [testbed.upload(f"photographs/{number:05}.jpg", data) for number, data in enumerate(encoded)]
    else:
        distinct = testbed.upload_photographs(DISTINCT)
    return [distinct[number % DISTINCT] for number in range(images)]


def measure(uris: Sequence[str], processes: int, scratch: Path) -> Round:
    """Grade the images with a number of worker processes of one command."""
    producer = ProducerClient()
    with _workers(processes, scratch) as folder:
        producer.grade(uris[: 128 * processes])
        before = read_costs(folder)
        seconds = producer.grade(uris)
        spent = read_costs(folder)
    spent.subtract(before)
    images = spent["images"]
    parts_ms = {part: spent[part] / images * 1000 for part in (*PARTS, "all", "decoding")}
    used = spent["all"] + spent["decoding"] + spent["others"]
    foreign = max(0.0, (spent["machine"] - used) / seconds)
    return Round(len(uris) / seconds, parts_ms, spent["others"] / images * 1000, foreign)


def read_costs(folder: Path) -> Counter[str]:
    """Return CPU seconds by part and `images` over all processes, and those of servers, producer and the machine."""
    total = Counter(machine=machine_cpu_time_s(), others=cpu_time_s(server_pids()) + time.process_time())
    for socket in folder.glob("*.socket"):
        with Client(str(socket)) as connection:
            images, costs = connection.recv()
        total.update({**costs, "images": images})
    return total


def report(kind: str, images: int, results: dict[int, list[Round]]) -> str:
    """Format the tables and write them to RESULTS.md."""

    def row(name: str, digits: int, read: Callable[[int, Round], float]) -> tuple[str, ...]:
        cells = (f"{median(read(count, one) for one in rounds):.{digits}f}" for count, rounds in results.items())
        return (name, *cells)

    rows = [
        *(row(NAMES.get(part, part), 2, lambda _, one, part=part: one.parts_ms[part]) for part in PARTS),
        row("other threads", 2, lambda _, one: one.parts_ms["all"] - sum(one.parts_ms[part] for part in PARTS)),
        row("sum", 2, lambda _, one: one.parts_ms["all"]),
        row("decoding processes, not in the sum", 2, lambda _, one: one.parts_ms["decoding"]),
        row("servers and producer, not in the sum", 2, lambda _, one: one.others_ms),
        row("ceiling of the processes, images/s", 0, lambda count, one: count * one.ceiling),
        row("cores that other programs used", 2, lambda _, one: one.foreign),
        row("bound of the other cores, images/s", 0, lambda _, one: one.cores_bound),
        ("images/s of the run", *(format_range([one.rate for one in rounds], 0) for rounds in results.values())),
        row("share of the smaller bound", 2, lambda count, one: one.rate / min(count * one.ceiling, one.cores_bound)),
    ]
    counts = " ".join(map(str, results))
    body = "\n\n".join(
        [
            f"## {TITLES[kind]}",
            f"CPU time of the worker processes for an image, ms, without the engine: {images} "
            f"{INPUTS[kind]}, an engine that takes no time; median of {len(next(iter(results.values())))} interleaved "
            "rounds. Ledger, broker and store run on the same machine.",
            f"Command: `python -m tests.benchmarks.process_cost --input {kind} --processes {counts}`. "
            f"Machine: {describe_machine()}.\nVersions: {versions_of(PACKAGES)}.",
            as_table(("", *(f"{count} process{'es' * (count > 1)}" for count in results)), rows),
        ]
    )
    write_section(TITLES[kind].lower(), body)
    return body


@contextmanager
def _workers(processes: int, scratch: Path) -> Iterator[Path]:
    log = scratch / "worker.log"
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        command = (sys.executable, *PROGRAM, "--processes", str(processes))
        with worker({"PROCESS_COST_FOLDER": folder, "FUNDUS_LOG_LEVEL": "info"}, log, *command):
            while len(READY.findall(log.read_text())) < processes:
                time.sleep(POLL_S)
            yield Path(folder)


def _shrink(data: bytes, side: int) -> "np.ndarray":
    picture = cv2.resize(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), (side, side))
    return picture[..., ::-1]


def _reduce(data: bytes, width: int) -> "np.ndarray":
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return cv2.resize(picture, None, fx=(scale := width / picture.shape[1]), fy=scale, interpolation=cv2.INTER_AREA)


if __name__ == "__main__":
    main()
