"""INT8 predictions are close to float32, and convolutions do run in INT8."""

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray

from tests.unit.worker.model.networks import SIDE, make_bundle, random_weights
from worker.core.errors import ModelError, SettingsError
from worker.core.vocabulary import Precision
from worker.model.bundle.activation_ranges import activation_range_shapes
from worker.model.bundle.bundle import Bundle, load_bundle
from worker.model.engines import factory as engines
from worker.model.engines.factory import make_engine
from worker.model.engines.openvino_engine import OpenVinoEngine
from worker.model.engines.openvino_graph import IMAGES_INPUT, build_openvino_graph
from worker.model.engines.openvino_int8 import int8_operands, measure_activation_ranges


def pictures(count: int, seed: int = 1) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8))


def with_ranges(bundle: Bundle, **changed: NDArray[np.float32]) -> Bundle:
    ranges = measure_activation_ranges(bundle, [pictures(8), pictures(3, seed=2)])
    return replace(bundle, activation_ranges=MappingProxyType(ranges | changed))


@pytest.fixture(scope="module")
def ready() -> Bundle:
    return with_ranges(make_bundle(random_weights()))


def test_ranges_are_the_maxima_over_all_images(ready: Bundle) -> None:
    assert ready.activation_ranges is not None
    assert {layer: array.shape for layer, array in ready.activation_ranges.items()} == activation_range_shapes()
    alone = [measure_activation_ranges(ready, [batch]) for batch in (pictures(8), pictures(3, seed=2))]
    for layer, array in ready.activation_ranges.items():
        np.testing.assert_allclose(array, np.maximum(alone[0][layer], alone[1][layer]), rtol=1e-5)
    assert all(array.max() > 0 for array in ready.activation_ranges.values())


@pytest.mark.parametrize("count", [3, 4])
def test_int8_predictions_are_close_to_float32(ready: Bundle, count: int) -> None:
    exact, rounded = OpenVinoEngine(ready, "f32"), OpenVinoEngine(ready, "int8")
    rounded.warm_up(4)
    seen = pictures(count, seed=3)
    answers = list(zip(exact.predict(seen), rounded.predict(seen), strict=True))
    for one, other in answers:
        np.testing.assert_allclose(other.probabilities, one.probabilities, atol=0.03)
        assert np.corrcoef(one.saliency.ravel(), other.saliency.ravel())[0, 1] > 0.98
    assert any((one.probabilities != other.probabilities).any() for one, other in answers)
    assert rounded.description.precision is Precision.INT8


def test_convolutions_run_in_int8(ready: Bundle) -> None:
    assert ready.activation_ranges is not None
    kinds = {operands: precisions_of(operands, ready) for operands in (None, int8_operands(ready.activation_ranges))}
    floats, rounded = kinds.values()
    assert not floats & {"u8", "i8"}
    assert rounded & {"u8", "i8"}


def precisions_of(operands: Any, bundle: Bundle) -> set[str]:
    """The precisions of the convolutions that OpenVINO runs on this CPU."""
    graph = build_openvino_graph(bundle) if operands is None else build_openvino_graph(bundle, operands)
    graph.reshape({IMAGES_INPUT: [1, SIDE, SIDE, 3]})
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    nodes = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    return {
        str(info["runtimePrecision"].value) for info in nodes if str(info["layerType"].value).startswith("Convolution")
    }


def test_channels_with_very_different_ranges_lose_no_accuracy() -> None:
    # One channel has 1000 times the activation and 1/1000 of the kernel: same network, different ranges.
    weights = random_weights()
    layer = "conv3_block1_1_conv"
    bright = weights | {
        "conv3_block1_0_bn/gamma": weights["conv3_block1_0_bn/gamma"].copy(),
        "conv3_block1_0_bn/beta": weights["conv3_block1_0_bn/beta"].copy(),
        f"{layer}/kernel": weights[f"{layer}/kernel"].copy(),
    }
    for name in ("gamma", "beta"):
        bright[f"conv3_block1_0_bn/{name}"][5] *= 1000
    bright[f"{layer}/kernel"][:, :, 5] /= 1000
    seen = pictures(4, seed=3)
    bundles = [with_ranges(make_bundle(one)) for one in (weights, bright)]
    expected = OpenVinoEngine(bundles[0], "f32").predict(seen)
    losses = [
        np.mean(
            [
                np.abs(one.probabilities - other.probabilities).max()
                for one, other in zip(expected, OpenVinoEngine(bundle, "int8").predict(seen), strict=True)
            ]
        )
        for bundle in bundles
    ]
    assert losses[1] < 2 * losses[0] + 1e-4


def test_layer_with_ranges_of_zero_yields_finite_values() -> None:
    bundle = make_bundle(random_weights())
    dark = with_ranges(
        bundle, conv4_block3_1_conv=np.zeros(activation_range_shapes()["conv4_block3_1_conv"], np.float32)
    )
    (prediction,) = OpenVinoEngine(dark, "int8").predict(pictures(1))
    assert np.isfinite(prediction.probabilities).all()


def test_bundle_without_ranges_is_rejected_with_the_fix() -> None:
    bundle = make_bundle(random_weights())
    with pytest.raises(
        ModelError, match="random has no activation ranges for INT8; `fundus model quantise` measures them"
    ):
        OpenVinoEngine(bundle, "int8")
    with pytest.raises(SettingsError, match="openvino-int8 needs activation ranges of random; `fundus model quantise`"):
        make_engine("openvino-int8", bundle)


def test_int8_is_selected_by_name_and_never_by_auto(ready: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "NVIDIA_DEVICE", engines.NVIDIA_DEVICE / "none")
    assert make_engine("openvino-int8", ready).description.precision is Precision.INT8
    assert isinstance(make_engine("openvino-int8", ready), OpenVinoEngine)
    for name in ("auto", "openvino"):
        assert make_engine(name, ready).description.precision is not Precision.INT8  # type: ignore[arg-type]


def test_pretrained_bundle_has_activation_ranges() -> None:
    assert make_engine("openvino-int8", load_bundle("densenet121-aptos-224")).description.precision is Precision.INT8
