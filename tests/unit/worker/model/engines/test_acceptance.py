"""`auto` selects only engines whose measured agreement meets the limits."""

import pytest

from tests.unit.worker.model.networks import make_bundle, random_weights
from worker.model.engines import acceptance
from worker.model.engines import factory as engines
from worker.model.engines.acceptance import EngineAgreement, is_accepted, load_agreements
from worker.model.engines.openvino_engine import OpenVinoEngine
from worker.model.engines.tensorflow_engine import TensorFlowEngine

PASSING = {"same_grades": 0.997, "probability_p99": 0.0099, "saliency_p1": 0.9951}


def agreement(**figures: float) -> EngineAgreement:
    return EngineAgreement(engine="openvino", precision="bf16", model_id="m", images=3115, **{**PASSING, **figures})


def test_shipped_agreements_pass_on_thousands_of_images() -> None:
    assert {(one.engine, one.precision) for one in load_agreements()} == {("openvino", "bf16"), ("openvino", "f32")}
    assert all(one.images > 3000 and one.passed for one in load_agreements())


@pytest.mark.parametrize(
    "figures", [{"same_grades": 0.9969}, {"probability_p99": 0.01}, {"saliency_p1": 0.995}, {"saliency_p1": -1}]
)
def test_engine_fails_by_each_limit_alone(figures: dict[str, float]) -> None:
    assert agreement().passed
    assert not agreement(**figures).passed


def test_auto_does_not_select_an_engine_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_bundle(random_weights())
    monkeypatch.setattr(engines, "NVIDIA_DEVICE", engines.NVIDIA_DEVICE / "none")
    assert isinstance(engines.make_engine("auto", bundle), OpenVinoEngine)
    failed = tuple(one.model_copy(update={"same_grades": 0.9}) for one in load_agreements())
    monkeypatch.setattr(acceptance, "load_agreements", lambda: failed)
    assert isinstance(engines.make_engine("auto", bundle), TensorFlowEngine)


def test_engine_without_a_measurement_is_not_accepted() -> None:
    assert not is_accepted("openvino", "int8")
