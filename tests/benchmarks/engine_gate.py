"""Does OpenVINO grade and explain as float32 TensorFlow does? Prints what the gate asks, and passes or fails.

python -m tests.benchmarks.engine_gate FOLDER [--limit N]
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.contract.settings import parse_settings
from worker.decoding.pool import DecoderPool
from worker.items import Prediction
from worker.model.bundle import load_bundle
from worker.model.engine import Engine
from worker.model.ordinal import decode_outputs

BATCH = 16
SAME_GRADES = 0.997
PROBABILITY_P99 = 0.01
SALIENCY_P1 = 0.995


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    settings = parse_settings()
    bundle = load_bundle(settings.model)
    paths = sorted(options.folder.glob("*.jpg"))[: options.limit]
    pool = DecoderPool(bundle.recipe, settings)
    enhanced = [future.result().enhanced for future in [pool.submit(path.read_bytes()) for path in paths]]
    pool.close()

    from worker.model.openvino_engine import OpenVinoEngine
    from worker.model.tensorflow_engine import TensorFlowEngine

    reference, candidate = TensorFlowEngine(bundle), OpenVinoEngine(bundle)
    expected, got, rates = interleaved(reference, candidate, enhanced)
    print(f"{len(paths)} images, batches of {BATCH}, in turn")
    print(f"{reference.device}: {rates[0]:.1f} images/s; {candidate.device}: {rates[1]:.1f} images/s")
    return judge(expected, got, bundle.thresholds)


def interleaved(
    reference: Engine, candidate: Engine, enhanced: list[NDArray[Any]]
) -> tuple[list[Prediction], list[Prediction], tuple[float, float]]:
    """Both engines on each batch in turn, so that a machine whose speed drifts is fair to both."""
    results: tuple[list[Prediction], list[Prediction]] = ([], [])
    seconds = [0.0, 0.0]
    for engine in (reference, candidate):
        engine.warm_up(BATCH)
    for start in range(0, len(enhanced), BATCH):
        for index, engine in enumerate((reference, candidate)):
            began = time.perf_counter()
            results[index].extend(engine.predict(enhanced[start : start + BATCH]))
            seconds[index] += time.perf_counter() - began
    return *results, (len(enhanced) / seconds[0], len(enhanced) / seconds[1])


def judge(expected: list[Prediction], got: list[Prediction], thresholds: tuple[float, ...]) -> int:
    """0 when every limit is kept."""
    same = np.mean(
        [
            decode_outputs(one.probabilities, thresholds).grade == decode_outputs(other.probabilities, thresholds).grade
            for one, other in zip(expected, got, strict=True)
        ]
    )
    apart = [np.abs(a.probabilities - b.probabilities).max() for a, b in zip(expected, got, strict=True)]
    alike = [correlation(a.saliency, b.saliency) for a, b in zip(expected, got, strict=True)]
    p99, p1 = np.percentile(apart, 99), np.percentile(alike, 1)
    print(f"same grade                      {same:.4%}   (at least {SAME_GRADES:.1%})")
    print(f"probabilities apart, 99th pct   {p99:.5f}    (less than {PROBABILITY_P99})")
    print(f"saliency correlation, 1st pct   {p1:.5f}    (more than {SALIENCY_P1})")
    passed = bool(same >= SAME_GRADES and p99 < PROBABILITY_P99 and p1 > SALIENCY_P1)
    print("passed" if passed else "FAILED")
    return 0 if passed else 1


def correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Of two maps; 1 where both are flat."""
    if one.std() == 0 or other.std() == 0:
        return float(one.std() == other.std())
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


if __name__ == "__main__":
    sys.exit(main())
