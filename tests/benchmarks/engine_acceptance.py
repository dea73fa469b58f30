"""Compare OpenVINO with float32 TensorFlow and print whether each precision passes the acceptance criteria.

    python -m tests.benchmarks.engine_acceptance FOLDER [--limit N] [--write]

`--write` stores the figures in `worker/model/engines/acceptance.json`, from which `FUNDUS_ENGINE=auto` selects.
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
from worker.model.engines import acceptance
from worker.model.engines.acceptance import measure_agreement
from worker.model.engines.protocol import Engine

BATCH = 16
PRECISIONS: tuple[Literal["bf16", "f32", "int8"], ...] = ("bf16", "f32", "int8")
"""int8 only if the bundle has activation ranges; `fundus model quantise` evaluates each bundle separately."""
ACCEPTANCE_FILE = Path(acceptance.__file__).with_name("acceptance.json")


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
    print(f"{len(enhanced)} images of {len(paths)} gradable, batches of {BATCH}, engines interleaved")
    (expected, rate), *measured = predict_interleaved([reference, *candidates], enhanced)
    print(f"{reference.description.device}: {rate:.1f} images/s")
    agreements = []
    for precision, candidate, (found, rate) in zip(precisions, candidates, measured, strict=True):
        agreement = measure_agreement(expected, found, bundle.thresholds, precision=precision, model_id=bundle.model_id)
        print(f"{candidate.description.device}, {precision}: {rate:.1f} images/s")
        print(*agreement.lines, "passed" if agreement.passed else "FAILED", sep="\n", flush=True)
        agreements.append(agreement)
    if options.write:
        ACCEPTANCE_FILE.write_bytes(acceptance.AGREEMENTS.dump_json(agreements, indent=2) + b"\n")
    return 0 if all(agreement.passed for agreement in agreements) else 1


def predict_interleaved(
    engines: Sequence[Engine], enhanced: Sequence[ModelInput]
) -> list[tuple[list[Prediction], float]]:
    """Run all engines on each batch in turn, so that drifts in machine speed affect all.

    Returns predictions and images/s of each engine.
    """
    results: list[list[Prediction]] = [[] for _ in engines]
    seconds = [0.0] * len(engines)
    for engine in engines:
        engine.warm_up(BATCH)
    for start in range(0, len(enhanced), BATCH):
        for index, engine in enumerate(engines):
            started = time.perf_counter()
            results[index].extend(engine.predict(enhanced[start : start + BATCH]))
            seconds[index] += time.perf_counter() - started
    return [(predictions, len(enhanced) / spent) for predictions, spent in zip(results, seconds, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
