"""An engine that computes wrong numbers, in either compiled shape, is replaced by an exact one or refused."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.unit.worker.model.networks import SIDE, make_bundle, random_weights
from worker.core.errors import AcceleratorMemoryError, ModelError
from worker.core.predictions import ModelInput, Prediction
from worker.core.vocabulary import Precision
from worker.model.bundle.bundle import Bundle
from worker.model.bundle.ensemble import load_golden_inputs, load_model
from worker.model.bundle.golden import GoldenInputs
from worker.model.engines import self_test as module
from worker.model.engines.factory import EngineName, PrecisionName
from worker.model.engines.openvino_engine import OpenVinoEngine
from worker.model.engines.protocol import EngineDescription
from worker.model.engines.self_test import SelfTest, run_self_test, start_engine

BATCH = 4
BUNDLE = make_bundle({})
PICTURES = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
SALIENCY = np.random.default_rng(1).random((3, 7, 7), np.float32)
PROBABILITIES = np.array([[1, 0.9, 0.8, 0.1, 0], [1, 0.1, 0, 0, 0], [1, 1, 1, 0.9, 0.8]], np.float32)
GOLDEN = GoldenInputs((PICTURES,), PROBABILITIES, SALIENCY)
ONE_GOLDEN = GoldenInputs((PICTURES[:1],), PROBABILITIES[:1], SALIENCY[:1])

Corrupt = Callable[[Sequence[ModelInput]], bool]


@dataclass
class TableEngine:
    """Answers the golden inputs from a table, or with other numbers for the batches that `is_corrupt` selects."""

    description: EngineDescription
    is_corrupt: Corrupt
    bundle: Bundle = field(default=BUNDLE)
    fits: int = BATCH

    def warm_up(self, batch_size: int) -> None:
        assert batch_size <= BATCH
        self.require_memory(batch_size)

    def predict(self, enhanced: Sequence[ModelInput]) -> list[Prediction]:
        self.require_memory(len(enhanced))
        shift = np.float32(0.2 if self.is_corrupt(enhanced) else 0)
        return [self._answer(np.asarray(one), shift) for one in enhanced]

    def require_memory(self, batch_size: int) -> None:
        if batch_size > self.fits:
            raise AcceleratorMemoryError(f"a batch of {batch_size} images does not fit the device's memory")

    def _answer(self, picture: np.ndarray, shift: np.float32) -> Prediction:
        pixels = picture if picture.dtype == np.uint8 else np.rint(255 * picture).astype(np.uint8)
        (place,) = (number for number, golden in enumerate(PICTURES) if np.array_equal(golden, pixels))
        return Prediction(np.abs(PROBABILITIES[place] - shift), SALIENCY[place])


def never(_batch: Sequence[ModelInput]) -> bool:
    return False


def always(_batch: Sequence[ModelInput]) -> bool:
    return True


def in_full_batches(batch: Sequence[ModelInput]) -> bool:
    return len(batch) == BATCH and np.asarray(batch[0]).dtype == np.uint8


def in_other_shapes(batch: Sequence[ModelInput]) -> bool:
    return not in_full_batches(batch)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine whose engines have these faults, by precision; TensorFlow is sound unless `tensorflow` is given."""

    def use(bfloat16: Corrupt = never, float32: Corrupt = never, tensorflow: Corrupt = never) -> None:
        faults = {Precision.BFLOAT16: bfloat16, Precision.FLOAT32: float32, Precision.INT8: bfloat16}

        def make(name: EngineName, model: Bundle, precision: PrecisionName, _options: object) -> TableEngine:
            if name == "tensorflow":
                return TableEngine(EngineDescription("tensorflow", Precision.FLOAT32, "cpu", {}), tensorflow, model)
            found = Precision.BFLOAT16 if precision == "auto" else Precision(precision)
            found = Precision.INT8 if name == "openvino-int8" else found
            return TableEngine(EngineDescription("openvino", found, "cpu", {}), faults[found], model)

        monkeypatch.setattr(module, "make_engine", make)

    return use


def start(name: EngineName = "auto", precision: PrecisionName = "auto", golden: GoldenInputs | None = GOLDEN) -> str:
    with capture_logs() as log:
        started = start_engine(name, precision, BUNDLE, golden, batch_size=BATCH)
    found = started.engine.description
    return " ".join([found.engine, found.precision, *(line["event"] for line in log)])


def test_sound_engine_is_used(machine: Callable[..., None]) -> None:
    machine()
    assert start() == "openvino bfloat16"


@pytest.mark.parametrize(("fits", "expected", "halved"), [(3, 2, [4]), (2, 2, [4]), (1, 1, [4, 2])])
@pytest.mark.parametrize("golden", [None, ONE_GOLDEN])
def test_batch_that_does_not_fit_at_the_start_is_halved(
    monkeypatch: pytest.MonkeyPatch, golden: GoldenInputs | None, fits: int, expected: int, halved: list[int]
) -> None:
    description = EngineDescription("tensorflow", Precision.FLOAT32, "gpu", {})
    monkeypatch.setattr(module, "make_engine", lambda *_: TableEngine(description, never, fits=fits))
    with capture_logs() as log:
        started = start_engine("tensorflow", "auto", BUNDLE, golden, batch_size=BATCH)
    assert started.batch_size == expected
    assert [line["batch_size"] for line in log if line["event"] == "batch_halved"] == halved


def test_device_without_memory_for_one_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    description = EngineDescription("tensorflow", Precision.FLOAT32, "gpu", {})
    monkeypatch.setattr(module, "make_engine", lambda *_: TableEngine(description, never, fits=0))
    with pytest.raises(AcceleratorMemoryError, match="a batch of 1 images does not fit"):
        start_engine("tensorflow", "auto", BUNDLE, None, batch_size=BATCH)


@pytest.mark.parametrize("corrupt", [always, in_full_batches, in_other_shapes])
def test_corrupt_bfloat16_is_replaced_by_float32(machine: Callable[..., None], corrupt: Corrupt) -> None:
    machine(bfloat16=corrupt)
    assert start() == "openvino float32 self_test_failed"


def test_corrupt_library_is_replaced_by_the_other(machine: Callable[..., None]) -> None:
    machine(bfloat16=always, float32=in_other_shapes)
    assert start() == "tensorflow float32 self_test_failed self_test_failed"


def test_machine_without_a_sound_engine_is_refused(machine: Callable[..., None]) -> None:
    machine(bfloat16=always, float32=always, tensorflow=always)
    with pytest.raises(
        ModelError, match=r"no engine returns the float32 answers of random: .*0\.2000 \(limit"
    ) as caught:
        start()
    assert caught.value.code == "self_test_failed"


@pytest.mark.parametrize(("name", "precision"), [("openvino", "bfloat16"), ("openvino-int8", "auto")])
def test_engine_that_was_chosen_by_name_is_refused_instead_of_replaced(
    machine: Callable[..., None], name: EngineName, precision: PrecisionName
) -> None:
    machine(bfloat16=always)
    with pytest.raises(ModelError, match="no engine returns the float32 answers"):
        start(name, precision)


def test_bundle_without_golden_inputs_is_reported_once_and_not_computed_in_bfloat16(
    machine: Callable[..., None],
) -> None:
    machine(bfloat16=always)
    assert start(golden=None) == "openvino float32 no_golden_inputs"
    assert start(precision="bfloat16", golden=None) == "openvino bfloat16 no_golden_inputs"


def test_figures_name_the_worst_answer() -> None:
    description = EngineDescription("openvino", Precision.FLOAT32, "cpu", {})
    found = run_self_test(TableEngine(description, in_full_batches), GOLDEN, batch_size=BATCH)
    assert found.figures == {
        "inputs": 3, "same_grades": pytest.approx(1.0), "probability_change": 0.2, "saliency_correlation": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("precision", "change", "passed"),
    [(Precision.FLOAT32, 0.002, False), (Precision.BFLOAT16, 0.002, True), (Precision.INT8, 0.04, False)],
)
def test_limits_depend_on_the_precision(precision: Precision, change: float, *, passed: bool) -> None:
    assert SelfTest(5, 1.0, change, 1.0).passes(precision) is passed


def test_answers_that_are_not_finite_fail(machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    machine()

    def predict(self: TableEngine, enhanced: Sequence[ModelInput]) -> list[Prediction]:
        if self.description.precision is Precision.BFLOAT16:
            raise ModelError("image 0 of 4 yields a value that is not finite")
        return sound(self, enhanced)

    sound = TableEngine.predict
    monkeypatch.setattr(TableEngine, "predict", predict)
    assert start() == "openvino float32 self_test_failed"


def test_openvino_passes_in_both_shapes_and_fails_with_other_weights() -> None:
    weights = random_weights()
    engine = OpenVinoEngine(make_bundle(weights), "f32")
    answers = engine.predict(list(PICTURES))
    golden = replace(
        GOLDEN,
        probabilities=np.stack([one.probabilities for one in answers]),
        saliency=np.stack([one.saliency for one in answers]),
    )
    engine.warm_up(BATCH)
    assert run_self_test(engine, golden, batch_size=BATCH).passes(Precision.FLOAT32)
    weights["conv2_block1_1_conv/kernel"] = -weights["conv2_block1_1_conv/kernel"]
    other = OpenVinoEngine(make_bundle(weights), "f32")
    assert not run_self_test(other, golden, batch_size=BATCH).passes(Precision.BFLOAT16)


def test_default_bundle_passes_on_this_machine() -> None:
    name = load_model("densenet121-aptos-224").name
    golden = load_golden_inputs(name)
    assert golden is not None
    started = start_engine("auto", "auto", load_model(name), golden, batch_size=2)
    assert started.self_test is not None
    assert started.self_test.passes(started.engine.description.precision)
