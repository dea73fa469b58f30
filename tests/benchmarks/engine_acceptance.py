"""Compare engines and precisions with float32, and print whether each meets the acceptance criteria.

    python -m tests.benchmarks.engine_acceptance FOLDER [--limit N] [--only NAME ...] [--write]

The reference is TensorFlow in float32, or JAX on the processor where TensorFlow is not installed. Each engine runs in a
process of its own, because Keras has one backend in a process. `--write` stores the figures in
`worker/model/engines/acceptance.json`, from which `FUNDUS_ENGINE=auto` selects; those of other engines are kept.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from worker.core.errors import ImageError, Ungradable
from worker.core.predictions import ModelInput, Prediction
from worker.core.settings import parse_settings
from worker.imaging.sandbox.pool import DecoderPool
from worker.model.bundle.ensemble import Ensemble, Model, load_model
from worker.model.engines import acceptance
from worker.model.engines.acceptance import EngineAgreement, load_agreements, measure_agreement
from worker.model.engines.factory import EngineName, PrecisionName, make_engine, openvino_unsupported_reason

BATCH = 16
ACCEPTANCE_FILE = Path(acceptance.__file__).with_name("acceptance.json")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine at a precision, by its names in the acceptance file and in the settings."""

    engine: str
    precision: str
    setting: tuple[EngineName, PrecisionName]
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Its name on the command line."""
        return f"{self.engine}-{self.precision}"


CANDIDATES = (
    # EfficientNet-Lite stays in float32, as in a worker.
    Candidate("openvino", "bf16", ("openvino", "auto")),
    Candidate("openvino", "f32", ("openvino", "float32")),
    # Only if the bundle has activation ranges; `fundus model quantise` evaluates each bundle separately.
    Candidate("openvino", "int8", ("openvino-int8", "auto")),
    Candidate("tensorflow", "f32", ("tensorflow", "float32")),
    Candidate("tensorflow", "bf16", ("tensorflow", "bfloat16")),
    Candidate("jax", "f32", ("jax", "float32")),
    Candidate("jax", "bf16", ("jax", "bfloat16")),
)
ON_PROCESSOR = (("JAX_PLATFORMS", "cpu"), ("CUDA_VISIBLE_DEVICES", ""))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--only", nargs="+", choices=[one.name for one in CANDIDATES], metavar="NAME")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.only and "openvino-bf16" in options.only and not has_bfloat16():
        parser.error("openvino-bf16: this processor has no bfloat16, so float32 would be measured")
    name = parse_settings().model
    model = load_model(name)
    paths = sorted(options.folder.rglob("*.jpg"))[: options.limit]
    enhanced = list(prepare(paths, model))
    print(f"{model.name}: {len(enhanced)} gradable images of {len(paths)}, batches of {BATCH}", flush=True)
    candidates = [one for one in CANDIDATES if one.name in options.only] if options.only else list_candidates(model)
    agreements = []
    for agreement in measure_agreements(candidates, model, name, enhanced):
        print(*agreement.lines, "passed" if agreement.passed else "FAILED", sep="\n", flush=True)
        agreements.append(agreement)
    if options.write:
        ACCEPTANCE_FILE.write_bytes(acceptance.AGREEMENTS.dump_json(merge(agreements), indent=2) + b"\n")
    return 0 if all(agreement.passed for agreement in agreements) else 1


def list_candidates(model: Model) -> list[Candidate]:
    """Return the installed candidates in floating types that support the model."""
    networks = model.networks if isinstance(model, Ensemble) else (model,)
    absent = {name for name in ("openvino", "tensorflow", "jax") if find_spec(name) is None}
    if any(openvino_unsupported_reason(network) is not None for network in networks):
        absent.add("openvino")
    left_out = {("openvino", "int8"), *([] if has_bfloat16() else [("openvino", "bf16")])}
    return [one for one in CANDIDATES if one.engine not in absent and (one.engine, one.precision) not in left_out]


def has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16; OpenVINO would take float32 instead."""
    if find_spec("openvino") is None:
        return False
    from worker.model.engines.openvino_executor import fastest_float_precision

    return fastest_float_precision() == "bf16"


def measure_agreements(
    candidates: Sequence[Candidate], model: Model, bundle: str, enhanced: Sequence[ModelInput]
) -> Iterator[EngineAgreement]:
    """Yield the agreement of each candidate with float32. bundle: the name of the model, as FUNDUS_MODEL."""
    expected = predict(find_reference(), bundle, enhanced)
    for candidate in candidates:
        yield measure_agreement(
            expected,
            predict(candidate, bundle, enhanced),
            model.thresholds,
            engine=candidate.engine,
            precision=candidate.precision,
            model_id=model.model_id,
        )


def find_reference() -> Candidate:
    """Return TensorFlow in float32, or JAX on the processor where it is not installed."""
    if find_spec("tensorflow") is not None:
        return Candidate("tensorflow", "f32", ("tensorflow", "float32"), ON_PROCESSOR)
    return Candidate("jax", "f32", ("jax", "float32"), ON_PROCESSOR)


def prepare(paths: Sequence[Path], model: Model) -> Iterator[ModelInput]:
    """Yield the prepared images of the gradable photographs."""
    pool = DecoderPool(model.recipe, parse_settings(), extra_recipes=model.extra_recipes)
    for future in [pool.submit(path.read_bytes()) for path in paths]:
        with suppress(Ungradable, ImageError):
            yield future.result().model_input
    pool.close()


def predict(candidate: Candidate, bundle: str, enhanced: Sequence[ModelInput]) -> list[Prediction]:
    """Predict all images in a process of its own, and print its CPU time for an image."""
    predictions: list[Prediction] = []
    seconds = 0.0
    with engine_process() as call:
        call(_start, bundle, candidate)
        for start in range(0, len(enhanced), BATCH):
            found, spent = call(_predict, enhanced[start : start + BATCH])
            predictions += found
            seconds += spent
    print(f"{candidate.name}: {seconds / len(enhanced) * 1000:.1f} ms of CPU time per image", flush=True)
    return predictions


@contextmanager
def engine_process() -> Iterator[Callable[..., Any]]:
    """Yield a function that calls another one, by arguments that can be pickled, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


def merge(agreements: Sequence[EngineAgreement]) -> list[EngineAgreement]:
    """Return the new agreements and the stored ones of other engines and precisions, in order."""
    known = {(one.engine, one.precision): one for one in (*load_agreements(), *agreements)}
    return [known[key] for key in sorted(known)]


_engine: Any = None


def _start(bundle: str, candidate: Candidate) -> None:
    global _engine
    os.environ |= dict(candidate.environment)
    _engine = make_engine(candidate.setting[0], load_model(bundle), candidate.setting[1])
    _engine.warm_up(BATCH)


def _predict(batch: Sequence[ModelInput]) -> tuple[list[Prediction], float]:
    started = time.process_time()
    found: list[Prediction] = _engine.predict(batch)
    return found, time.process_time() - started


if __name__ == "__main__":
    sys.exit(main())
