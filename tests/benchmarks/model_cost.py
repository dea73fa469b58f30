"""Processor time and peak memory of models, as ratios to the first.

python -m tests.benchmarks.model_cost BUNDLE [BUNDLE ...]

Each bundle, a name or a folder, has a process of its own, and grades and explains batches of 16 random images with the
engine that `auto` selects. In each round all models take their turn, so that drifts of the machine cancel out of the
ratios.
"""

import argparse
import resource
import time
from contextlib import ExitStack
from typing import Any

import numpy as np

from tests.benchmarks.engine_acceptance import BATCH, engine_process
from tests.benchmarks.engines_report import format_quartiles
from tests.benchmarks.gpu_check.engine_speed import draw_inputs
from worker.model.bundle.ensemble import load_model
from worker.model.engines.factory import make_engine

ROUNDS = 20


def main() -> None:
    """Print one line per bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+")
    bundles = parser.parse_args().bundles
    with ExitStack() as processes:
        calls = [processes.enter_context(engine_process()) for _ in bundles]
        names = [call(_start, bundle) for call, bundle in zip(calls, bundles, strict=True)]
        rounds = np.array([[call(_predict) for call in calls] for _ in range(ROUNDS)])
        for name, call, spent in zip(names, calls, rounds.T, strict=True):
            print(
                f"{name}: {format_quartiles(spent.tolist(), 1)} ms of CPU time an image,"
                f" {format_quartiles((spent / rounds[:, 0]).tolist(), 2)} times the first, {call(_peak_mb):.0f} MB"
            )


_engine: Any = None


def _start(bundle: str) -> str:
    """Warm up an engine in this process, and return what it is."""
    global _engine
    _engine = make_engine("auto", load_model(bundle))
    _engine.warm_up(BATCH)
    return f"{bundle} ({_engine.description.engine}, {_engine.description.precision})"


def _predict() -> float:
    """Return milliseconds of processor time an image."""
    images = draw_inputs(_engine.bundle, BATCH)
    started = time.process_time()
    _engine.predict(images)
    return (time.process_time() - started) / BATCH * 1000


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
