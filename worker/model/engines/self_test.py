"""Test an engine's numbers before it grades: the golden inputs of the bundle, in both compiled shapes."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import structlog

from worker.core.errors import AcceleratorMemoryError, ModelError
from worker.core.predictions import ModelInput, Prediction
from worker.core.vocabulary import Precision
from worker.model.bundle.ensemble import Model
from worker.model.bundle.golden import GoldenInputs
from worker.model.class_activation_maps import find_highest_passed
from worker.model.engines.acceptance import correlate
from worker.model.engines.device_options import DeviceOptions
from worker.model.engines.factory import EngineName, PrecisionName, exact_engine, make_engine
from worker.model.engines.protocol import Engine, EngineDescription

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one image: its largest change in probability, and the correlation of its saliency map."""

    probability_change: float
    saliency_correlation: float


EXACT = Limits(probability_change=0.001, saliency_correlation=0.999)
ROUNDED = Limits(probability_change=0.03, saliency_correlation=0.98)
"""Wider than those of the acceptance, which are percentiles over thousands of images: corrupt numbers are far off."""


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Agreement of an engine with the float32 answers of the golden inputs.

    inputs: number of golden inputs. same_grades: share of answers with the same grade. probability_change: the largest
    one. saliency_correlation: the smallest one among answers with the same grade; 0 without any.
    """

    inputs: int
    same_grades: float
    probability_change: float
    saliency_correlation: float

    def passes(self, precision: Precision) -> bool:
        """Whether the limits for engines of this precision are met."""
        limits = _limits(precision)
        return (
            self.probability_change <= limits.probability_change
            and self.saliency_correlation >= limits.saliency_correlation
        )

    @property
    def figures(self) -> dict[str, Any]:
        """The figures as JSON types; rounded, so that they are the same at each start of an engine."""
        return {name: round(value, 4) for name, value in asdict(self).items()}

    def describe(self, precision: Precision) -> str:
        """Return the figures and their limits for people."""
        limits = _limits(precision)
        return (
            f"largest probability change {self.probability_change:.4f} (limit {limits.probability_change}), smallest"
            f" saliency correlation {self.saliency_correlation:.4f} (limit {limits.saliency_correlation})"
        )


@dataclass(frozen=True, slots=True)
class StartedEngine:
    """An engine that is warmed up, and its self-test; None for a bundle without golden inputs.

    batch_size: the size of a full batch, smaller than requested if that does not fit into the device's memory.
    """

    engine: Engine
    self_test: SelfTest | None
    batch_size: int


def start_engine(
    name: EngineName,
    precision: PrecisionName,
    model: Model,
    golden: GoldenInputs | None,
    *,
    batch_size: int,
    options: DeviceOptions = DeviceOptions(),  # noqa: B008 - it is frozen
) -> StartedEngine:
    """Return the first engine that passes the self-test, warmed up.

    With precision `auto`, float32 follows the fastest precision, and with the engine `auto`, TensorFlow or JAX follows
    OpenVINO. An engine or a precision that was chosen by name is not replaced. A batch that does not fit into the
    device's memory is halved. Without golden inputs there is no test, and `auto` does not use bfloat16, which some
    processors compute wrongly. Raises ModelError (`self_test_failed`) if no engine passes, and as `make_engine` and
    `Engine.warm_up` do.
    """
    if golden is None:
        detail = "numbers are not tested; fix: `fundus model selftest BUNDLE --write`"
        log.warning("no_golden_inputs", model=model.name, detail=detail)
    failures: dict[str, str] = {}
    for engine_name, engine_precision in _attempts(name, precision):
        engine = make_engine(engine_name, model, engine_precision, options)
        description = _describe(engine.description)
        if description in failures:
            continue
        if golden is None and engine_precision == "auto" and engine.description.precision is Precision.BFLOAT16:
            continue
        failure, started = _start(engine, golden, batch_size)
        if failure is None:
            return started
        failures[description] = failure
        log.error("self_test_failed", model=model.name, engine=description, detail=failure)
    detail = "; ".join(f"{description}: {failure}" for description, failure in failures.items())
    raise ModelError(
        f"no engine returns the float32 answers of {model.name}: {detail}; fix: FUNDUS_ENGINE=auto and"
        " FUNDUS_PRECISION=auto, or another machine",
        code="self_test_failed",
    )


def run_self_test(engine: Engine, golden: GoldenInputs, *, batch_size: int) -> SelfTest:
    """Compare the engine's answers with the golden ones, in full batches of uint8 and in another shape.

    batch_size: that of `Engine.warm_up`. Raises as `Engine.predict` does.
    """
    inputs, count = golden.inputs, len(golden.probabilities)
    places = np.resize(np.arange(count), -(-count // batch_size) * batch_size)
    full = [
        prediction
        for start in range(0, len(places), batch_size)
        for prediction in engine.predict([inputs[place] for place in places[start : start + batch_size]])
    ]
    # Fractions need the graph for any shape and type.
    other = engine.predict([_as_fractions(one) for one in inputs])
    return compare_answers([*full, *other], golden, [*places, *range(count)], engine.bundle.thresholds)


def compare_answers(
    found: Sequence[Prediction], golden: GoldenInputs, places: Sequence[int], thresholds: Sequence[float]
) -> SelfTest:
    """Compare predictions with the golden answers at these places."""
    probabilities = np.stack([one.probabilities for one in found])
    expected = golden.probabilities[list(places)]
    same = find_highest_passed(probabilities, thresholds) == find_highest_passed(expected, thresholds)
    correlations = [
        correlate(one.saliency, golden.saliency[place])
        for one, place, is_same in zip(found, places, same, strict=True)
        if is_same
    ]
    return SelfTest(
        inputs=len(golden.probabilities),
        same_grades=float(same.mean()),
        probability_change=float(np.abs(probabilities - expected).max()),
        saliency_correlation=min(correlations, default=0.0),
    )


def _attempts(name: EngineName, precision: PrecisionName) -> Iterator[tuple[EngineName, PrecisionName]]:
    yield name, precision
    if precision == "auto" and name != "openvino-int8":
        yield name, "float32"
        if name == "auto":
            yield exact_engine(), "float32"


def _start(engine: Engine, golden: GoldenInputs | None, batch_size: int) -> tuple[str | None, StartedEngine]:
    """Warm up and test an engine, with half of the batch while a batch does not fit into memory.

    Returns why it fails, None if it passes. Raises AcceleratorMemoryError if one image does not fit.
    """
    try:
        engine.warm_up(batch_size)
        failure, self_test = (None, None) if golden is None else _test(engine, golden, batch_size)
    except AcceleratorMemoryError as error:
        if batch_size == 1:
            raise
        log.warning("batch_halved", batch_size=batch_size, detail=error.detail)
        return _start(engine, golden, (batch_size + 1) // 2)
    return failure, StartedEngine(engine, self_test, batch_size)


def _test(engine: Engine, golden: GoldenInputs, batch_size: int) -> tuple[str | None, SelfTest | None]:
    """Return why the engine fails, None if it passes, and its figures."""
    try:
        self_test = run_self_test(engine, golden, batch_size=batch_size)
    except ModelError as error:  # a value that is not finite
        return error.detail, None
    precision = engine.description.precision
    return None if self_test.passes(precision) else self_test.describe(precision), self_test


def _limits(precision: Precision) -> Limits:
    return EXACT if precision is Precision.FLOAT32 else ROUNDED


def _describe(description: EngineDescription) -> str:
    return f"{description.engine} {description.precision} on {description.device}"


def _as_fractions(one: ModelInput) -> ModelInput:
    if isinstance(one, tuple):
        return tuple(np.asarray(picture, np.float32) / np.float32(255) for picture in one)
    return np.asarray(one, np.float32) / np.float32(255)
