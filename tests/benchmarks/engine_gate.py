"""Does OpenVINO grade and explain as float32 TensorFlow does? Prints what the gate asks, and passes or fails.

    python -m tests.benchmarks.engine_gate FOLDER [--limit N] [--write]

`--write` keeps the figures in `worker/model/gate.json`, which `auto` obeys.
"""

import argparse
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from worker.contract.errors import Ungradable
from worker.contract.settings import parse_settings
from worker.decoding.pool import DecoderPool
from worker.items import Prediction
from worker.model import gate
from worker.model.bundle import load_bundle
from worker.model.engine import Engine
from worker.model.gate import PROBABILITY_P99, SALIENCY_P1, SAME_GRADES, Verdict
from worker.model.ordinal import decode_outputs

BATCH = 16
PRECISIONS: tuple[Literal["bf16", "f32"], ...] = ("bf16", "f32")
GATE = Path(gate.__file__).with_name("gate.json")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    settings = parse_settings()
    bundle = load_bundle(settings.model)
    paths = sorted(options.folder.glob("*.jpg"))[: options.limit]
    pool = DecoderPool(bundle.recipe, settings)
    enhanced = []
    for future in [pool.submit(path.read_bytes()) for path in paths]:
        with suppress(Ungradable):
            enhanced.append(future.result().enhanced)
    pool.close()

    from worker.model.openvino_engine import OpenVinoEngine
    from worker.model.tensorflow_engine import TensorFlowEngine

    verdicts = []
    for precision in PRECISIONS:
        reference, candidate = TensorFlowEngine(bundle), OpenVinoEngine(bundle, precision)
        expected, got, rates = interleaved(reference, candidate, enhanced)
        print(f"{len(enhanced)} images of {len(paths)} gradable, batches of {BATCH}, in turn")
        print(f"{reference.device}: {rates[0]:.1f} images/s; {candidate.device}: {rates[1]:.1f} images/s")
        verdicts.append(judge(expected, got, bundle.thresholds, precision=precision, model_id=bundle.model_id))
    if options.write:
        GATE.write_bytes(gate.VERDICTS.dump_json(verdicts, indent=2) + b"\n")
    return 0 if all(verdict.passed for verdict in verdicts) else 1


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


def judge(
    expected: list[Prediction], got: list[Prediction], thresholds: tuple[float, ...], *, precision: str, model_id: str
) -> Verdict:
    """The figures, which are printed."""
    same = np.mean(
        [
            decode_outputs(one.probabilities, thresholds).grade == decode_outputs(other.probabilities, thresholds).grade
            for one, other in zip(expected, got, strict=True)
        ]
    )
    apart = [np.abs(a.probabilities - b.probabilities).max() for a, b in zip(expected, got, strict=True)]
    alike = [correlation(a.saliency, b.saliency) for a, b in zip(expected, got, strict=True)]
    verdict = Verdict(
        engine="openvino",
        precision=precision,
        model_id=model_id,
        images=len(expected),
        same_grades=round(float(same), 6),
        probability_p99=round(float(np.percentile(apart, 99)), 6),
        saliency_p1=round(float(np.percentile(alike, 1)), 6),
    )
    print(f"same grade                      {verdict.same_grades:.4%}   (at least {SAME_GRADES:.1%})")
    print(f"probabilities apart, 99th pct   {verdict.probability_p99:.5f}    (less than {PROBABILITY_P99})")
    print(f"saliency correlation, 1st pct   {verdict.saliency_p1:.5f}    (more than {SALIENCY_P1})")
    print("passed" if verdict.passed else "FAILED", flush=True)
    return verdict


def correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Of two maps; 1 where both are flat."""
    if one.std() == 0 or other.std() == 0:
        return float(one.std() == other.std())
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


if __name__ == "__main__":
    sys.exit(main())
