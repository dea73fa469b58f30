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

from worker.core.errors import Ungradable
from worker.core.predictions import ModelInput, Prediction
from worker.core.settings import parse_settings
from worker.imaging.sandbox.pool import DecoderPool
from worker.model.bundle.bundle import Bundle
from worker.model.bundle.ensemble import load_model
from worker.model.engines import acceptance
from worker.model.engines.acceptance import measure_agreement
from worker.model.engines.factory import EngineName, PrecisionName, make_engine
from worker.model.engines.protocol import Engine

BATCH = 16
ENGINES: dict[str, tuple[EngineName, PrecisionName]] = {
    # As a worker computes on a processor with bfloat16: EfficientNet-Lite stays in float32.
    "bf16": ("openvino", "auto"),
    "f32": ("openvino", "float32"),
    "int8": ("openvino-int8", "auto"),
}
"""int8 only if the bundle has activation ranges; `fundus model quantise` evaluates each bundle separately."""
ACCEPTANCE_FILE = Path(acceptance.__file__).with_name("acceptance.json")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    settings = parse_settings()
    model = load_model(settings.model)
    paths = sorted(options.folder.glob("*.jpg"))[: options.limit]
    pool = DecoderPool(model.recipe, settings, extra_recipes=model.extra_recipes)
    enhanced = []
    for future in [pool.submit(path.read_bytes()) for path in paths]:
        with suppress(Ungradable):
            enhanced.append(future.result().model_input)
    pool.close()

    reference = make_engine("tensorflow", model, "float32")
    has_ranges = isinstance(model, Bundle) and model.activation_ranges is not None
    precisions = [name for name in ENGINES if name != "int8" or has_ranges]
    candidates = [make_engine(engine, model, precision) for engine, precision in map(ENGINES.__getitem__, precisions)]
    print(f"{len(enhanced)} images of {len(paths)} gradable, batches of {BATCH}, engines interleaved")
    (expected, rate), *measured = predict_interleaved([reference, *candidates], enhanced)
    print(f"{reference.description.device}: {rate:.1f} images/s")
    agreements = []
    for precision, candidate, (found, rate) in zip(precisions, candidates, measured, strict=True):
        agreement = measure_agreement(expected, found, model.thresholds, precision=precision, model_id=model.model_id)
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
