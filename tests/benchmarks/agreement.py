"""Grade a labelled folder with PostgreSQL, S3 and Valkey, and print agreement and throughput.

    python -m tests.benchmarks.agreement FOLDER --labels CSV [--limit N]

The worker runs in this process, so that its throughput can be compared with the forward pass at the same batch size.
"""

import argparse
import csv
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, cohen_kappa_score, roc_auc_score
from sqlalchemy import func, select

from tests.benchmarks.testbed import open_testbed
from worker.core.settings import parse_settings
from worker.core.vocabulary import Status
from worker.ledger.database import connect, read_transaction
from worker.ledger.schema import gradings
from worker.model.bundle.bundle import find_bundle, read_manifest

RUN = "agreement"
FORWARD_BATCHES = 30
FUNDUS = Path(sys.executable).with_name("fundus")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    with open_testbed() as testbed:
        limit = ["--limit", str(options.limit)] if options.limit else []
        fundus("enqueue", str(options.folder), "--labels", str(options.labels), "--run", RUN, *limit)
        images_per_s, forward_per_s = grade()
        fundus("status", RUN)
        exported = testbed.scratch / "run.csv"
        fundus("export", RUN, "--format", "csv", "--out", str(exported))
        report(exported, images_per_s, forward_per_s)


def grade() -> tuple[float, float]:
    """Measure images per second of the run, from the first lease of the warm worker, and of the forward pass."""
    from worker import app as application

    settings = parse_settings()
    node = application.app.Worker(pool="threads", concurrency=settings.concurrency, loglevel="WARNING", quiet=True)
    started = time.monotonic()
    thread = threading.Thread(target=node.start, daemon=True)
    thread.start()
    engine = connect(settings)
    first, queued, total = 0.0, 1, 0
    while queued:
        with read_transaction(engine) as connection:
            counts = dict(connection.execute(select(gradings.c.status, func.count()).group_by(gradings.c.status)).all())
            leased = connection.scalar(select(func.count()).where(gradings.c.lease_token.is_not(None)))
        queued, total = counts.get(Status.QUEUED, 0), sum(counts.values())
        if not first and (leased or queued < total):
            first = time.monotonic()
            print(f"first images leased {first - started:.1f} s after the start", flush=True)
        time.sleep(0.05)
    seconds = time.monotonic() - first
    node.stop()
    thread.join(30)
    engine.dispose()
    return total / seconds, measure_forward_pass(settings.model, settings.max_batch_size)


def measure_forward_pass(model: str, batch_size: int) -> float:
    """Measure images per second of the network without explanation, with its input in memory."""
    import tensorflow as tf

    from worker.model.bundle.bundle import load_bundle
    from worker.model.network.build import load_network

    bundle = load_bundle(model)
    network = load_network(bundle)
    forward = tf.function(lambda images: network(images, training=False))
    side = bundle.recipe.input_size_px
    images = tf.constant(np.random.default_rng(0).normal(size=(batch_size, side, side, 3)).astype(np.float32))
    forward(images)
    started = time.monotonic()
    for _ in range(FORWARD_BATCHES):
        forward(images).numpy()
    return FORWARD_BATCHES * batch_size / (time.monotonic() - started)


def report(exported: Path, images_per_s: float, forward_per_s: float) -> None:
    """Print the agreement with the reference grades, computed from the export."""
    with exported.open(newline="") as file:
        rows = list(csv.DictReader(file))
    print("figures in the model manifest:", read_manifest(find_bundle(parse_settings().model)).notes)
    print("by status:", dict(Counter(row["status"] for row in rows)))
    pairs = [row for row in rows if row["status"] == "graded" and row["reference_grade"]]
    reference = np.array([int(row["reference_grade"]) for row in pairs])
    grades = np.array([int(row["grade"]) for row in pairs])
    p_referable = np.array([float(row["p_ge2"]) for row in pairs])
    print(f"quadratic weighted kappa {cohen_kappa_score(reference, grades, weights='quadratic'):.4f}")
    print(f"accuracy                 {accuracy_score(reference, grades):.4f}")
    print(f"referable AUC            {roc_auc_score(reference >= 2, p_referable):.4f}")
    print(f"run                      {images_per_s:.1f} images/s")
    batch_size = parse_settings().max_batch_size
    print(f"forward pass             {forward_per_s:.1f} images/s at batch size {batch_size}")
    print(f"ratio                    {images_per_s / forward_per_s:.3f}")


def fundus(*arguments: str) -> Any:
    """Run a `fundus` command with its output on this terminal."""
    return subprocess.run([FUNDUS, *arguments], check=True)


if __name__ == "__main__":
    main()
