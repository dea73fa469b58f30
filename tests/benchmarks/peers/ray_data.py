"""Ray Data, following its batch inference guide: read, map, a stateful actor on batches, write.

    python -m tests.benchmarks.peers.ray_data

Reads a number of images per line and answers with the seconds they took.

The network is compiled, with one gradient tape per batch; Ray schedules tasks and actors on the cores. Ray restarts the
actors for each data set, which is negligible in a long run: the clock starts when the model is warm, and no photograph
is decoded earlier.
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
    """Actor with the model; it creates the file `warm` when it is ready."""

    def __init__(self, warm: str) -> None:
        from tests.benchmarks.peers import notebook_pipeline

        self._run = notebook_pipeline.compile_batch(notebook_pipeline.load_networks()[1])
        self._run(np.zeros((BATCH, notebook_pipeline.SIZE_PX, notebook_pipeline.SIZE_PX, 3), np.float32))
        Path(warm).touch()

    def __call__(self, rows: Rows) -> Rows:
        """Add `probabilities` and `saliency`."""
        images = np.stack(list(rows.pop("image")))
        rows["probabilities"], rows["saliency"] = (part.numpy() for part in self._run(images))
        return rows


class Publisher:
    """Actor that draws and uploads overlays and inserts rows."""

    def __init__(self) -> None:
        from tests.benchmarks.peers import services

        self._services = services.connect()

    def __call__(self, rows: Rows) -> Rows:
        """Publish a batch; only the paths are passed on."""
        from tests.benchmarks.peers import notebook_pipeline, services

        for path, picture, row, salient in zip(
            rows["path"], rows["picture"], rows["probabilities"], rows["saliency"], strict=True
        ):
            key = path.partition("/")[2]
            png = notebook_pipeline.draw(picture, salient)
            services.publish(self._services, PEER, key, png, row, notebook_pipeline.grade_of(row))
        return {"path": rows["path"]}


def prepare(row: Rows, warm: str) -> Rows:
    """Wait until the model is warm, then prepare the model's input and the image of the overlay."""
    import cv2

    from tests.benchmarks.peers import notebook_pipeline

    cv2.setNumThreads(1)
    while not Path(warm).exists():
        time.sleep(0.01)
    image, picture = notebook_pipeline.prepare(row["bytes"])
    return {"path": row["path"], "image": image, "picture": picture}


def run(keys: list[str]) -> float:
    """Grade all keys. Returns seconds from the first read to the last row."""
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
    """Answer requests until standard input ends."""
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
