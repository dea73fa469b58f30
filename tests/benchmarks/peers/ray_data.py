"""Ray Data, as its guide to batch inference says: read, map, a stateful actor on batches, write.

python -m tests.benchmarks.peers.ray_data: reads a number of images per line, answers with the seconds they took.

The network runs compiled with one tape for a batch; tasks and the actors share the cores as Ray schedules them. Ray
starts the actors of a data set anew, which a long run would not notice: the clock starts, and the first photograph is
decoded, when the model is warm.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow.fs
import ray

PEER = "ray_data"
BATCH = 16

Rows = dict[str, Any]


class Grader:
    """The actor that holds the model; touches `warm` when it is ready."""

    def __init__(self, warm: str) -> None:
        from tests.benchmarks.peers import notebook_way

        self._run = notebook_way.compile_batch(notebook_way.load_networks()[1])
        self._run(np.zeros((BATCH, notebook_way.SIZE_PX, notebook_way.SIZE_PX, 3), np.float32))
        Path(warm).touch()

    def __call__(self, rows: Rows) -> Rows:
        """Adds `probabilities` and `saliency`."""
        images = np.stack(list(rows.pop("image")))
        rows["probabilities"], rows["saliency"] = (part.numpy() for part in self._run(images))
        return rows


class Publisher:
    """Draws, uploads and inserts; holds the connections."""

    def __init__(self) -> None:
        from tests.benchmarks.peers import services

        self._services = services.connect()

    def __call__(self, rows: Rows) -> Rows:
        """Only the paths go on."""
        from tests.benchmarks.peers import notebook_way, services

        for path, picture, row, salient in zip(
            rows["path"], rows["picture"], rows["probabilities"], rows["saliency"], strict=True
        ):
            key = path.partition("/")[2]
            png = notebook_way.draw(picture, salient)
            services.publish(self._services, PEER, key, png, row, notebook_way.grade_of(row))
        return {"path": rows["path"]}


def prepare(row: Rows, warm: str) -> Rows:
    """Bytes to the network's input and the picture to draw on, not before the model is warm."""
    import cv2

    from tests.benchmarks.peers import notebook_way

    cv2.setNumThreads(1)
    while not Path(warm).exists():
        time.sleep(0.01)
    image, picture = notebook_way.prepare(row["bytes"])
    return {"path": row["path"], "image": image, "picture": picture}


def run(keys: list[str]) -> float:
    """Seconds from the first read to the last row."""
    address = urlsplit(os.environ["BENCH_S3"])
    files = pyarrow.fs.S3FileSystem(endpoint_override=address.netloc, scheme=address.scheme, region="us-east-1")
    paths = [f"{os.environ['BENCH_BUCKET']}/{key}" for key in keys]
    with tempfile.TemporaryDirectory() as scratch:
        warm = Path(scratch) / "warm"
        dataset = (
            ray.data.read_binary_files(paths, filesystem=files, include_paths=True)
            .map(prepare, fn_kwargs={"warm": str(warm)})
            .map_batches(
                Grader,
                fn_constructor_kwargs={"warm": str(warm)},
                batch_size=BATCH,
                compute=ray.data.ActorPoolStrategy(size=1),
                num_cpus=0.5,
            )
            .map_batches(Publisher, batch_size=BATCH, compute=ray.data.ActorPoolStrategy(size=1), num_cpus=0.5)
        )
        assert dataset.materialize().count() == len(keys)
        return time.time() - warm.stat().st_mtime


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    answers.write("ready\n")
    for line in sys.stdin:
        answers.write(f"{run(os.environ['BENCH_KEYS'].split(',')[: int(line)])}\n")
    ray.shutdown()


if __name__ == "__main__":
    main()
