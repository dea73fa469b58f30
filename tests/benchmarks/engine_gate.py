"""Does OpenVINO grade and explain as float32 TensorFlow does? Prints what the gate asks, and passes or fails.

    python -m tests.benchmarks.engine_gate FOLDER [--limit N] [--write]

`--write` keeps the figures in `worker/model/engines/acceptance.json`, which `auto` obeys.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from worker.core.errors import Ungradable
from worker.core.predictions import ModelInput, Prediction
from worker.core.settings import parse_settings
from worker.imaging.sandbox.pool import DecoderPool
from worker.model.bundle.bundle import load_bundle
from worker.model.engines import acceptance as gate
from worker.model.engines.acceptance import measure_agreement
from worker.model.engines.protocol import Engine

BATCH = 16
PRECISIONS: tuple[Literal["bf16", "f32", "int8"], ...] = ("bf16", "f32", "int8")
"""The last where the bundle is ready for it; `fundus model quantise` judges each bundle's own."""
GATE = Path(gate.__file__).with_name("acceptance.json")


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

    from worker.model.engines.openvino_engine import OpenVinoEngine
    from worker.model.engines.tensorflow_engine import TensorFlowEngine

    reference = TensorFlowEngine(bundle)
    precisions = PRECISIONS if bundle.activation_ranges is not None else PRECISIONS[:2]
    candidates = [OpenVinoEngine(bundle, precision) for precision in precisions]
    print(f"{len(enhanced)} images of {len(paths)} gradable, batches of {BATCH}, in turn")
    (expected, rate), *answers = interleaved([reference, *candidates], enhanced)
    print(f"{reference.device}: {rate:.1f} images/s")
    verdicts = []
    for precision, candidate, (got, rate) in zip(precisions, candidates, answers, strict=True):
        verdict = measure_agreement(expected, got, bundle.thresholds, precision=precision, model_id=bundle.model_id)
        print(f"{candidate.device}: {rate:.1f} images/s")
        print(*verdict.lines, "passed" if verdict.passed else "FAILED", sep="\n", flush=True)
        verdicts.append(verdict)
    if options.write:
        GATE.write_bytes(gate.AGREEMENTS.dump_json(verdicts, indent=2) + b"\n")
    return 0 if all(verdict.passed for verdict in verdicts) else 1


def interleaved(engines: Sequence[Engine], enhanced: Sequence[ModelInput]) -> list[tuple[list[Prediction], float]]:
    """Predictions and images/s of all engines on each batch in turn, so that a machine whose speed drifts is fair."""
    results: list[list[Prediction]] = [[] for _ in engines]
    seconds = [0.0] * len(engines)
    for engine in engines:
        engine.warm_up(BATCH)
    for start in range(0, len(enhanced), BATCH):
        for index, engine in enumerate(engines):
            began = time.perf_counter()
            results[index].extend(engine.predict(enhanced[start : start + BATCH]))
            seconds[index] += time.perf_counter() - began
    return [(answers, len(enhanced) / spent) for answers, spent in zip(results, seconds, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
