"""The OpenVINO engine predicts as the TensorFlow engine does."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.worker.model.networks import SIDE, make_bundle, random_weights
from worker.core.errors import ModelError, SettingsError
from worker.core.vocabulary import Precision
from worker.model.bundle.bundle import load_bundle
from worker.model.engines import openvino_executor
from worker.model.engines.factory import make_engine
from worker.model.engines.openvino_engine import OpenVinoEngine
from worker.model.engines.tensorflow_engine import TensorFlowEngine
from worker.model.ordinal import decode_outputs

DATA = Path(__file__).parents[4] / "data" / "model"


@pytest.fixture(scope="module")
def engine() -> OpenVinoEngine:
    return OpenVinoEngine(make_bundle(random_weights()), "f32")


def pictures(count: int) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(1).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8))


def test_probabilities_and_saliency_equal_those_of_tensorflow(engine: OpenVinoEngine) -> None:
    images = pictures(3)
    images[1] = images[1].astype(np.float32) / 255
    for one, other in zip(engine.predict(images), TensorFlowEngine(engine.bundle).predict(images), strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
        np.testing.assert_allclose(one.saliency, other.saliency, atol=1e-4)
        assert one.probabilities.dtype == one.saliency.dtype == np.float32


def test_temperature_and_thresholds_act_as_in_tensorflow() -> None:
    images = pictures(3)
    scaled = TensorFlowEngine(make_bundle(random_weights(), temperature=3.0)).predict(images)
    thresholds = tuple(float(np.mean([one.probabilities[k] for one in scaled])) for k in range(5))
    bundle = make_bundle(random_weights(), temperature=3.0, thresholds=thresholds)
    ours, theirs = OpenVinoEngine(bundle, "f32").predict(images), TensorFlowEngine(bundle).predict(images)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
        np.testing.assert_allclose(one.saliency, other.saliency, atol=1e-4)


def test_full_batch_of_uint8_and_any_other_give_equal_predictions(engine: OpenVinoEngine) -> None:
    images = pictures(4)
    fractions = [image.astype(np.float32) / 255 for image in images]
    expected = engine.predict(fractions)
    engine.warm_up(3)
    for batch in (images[:2], images[:3], images[:4], fractions[:3], [*images[:2], fractions[2]]):
        for one, other in zip(engine.predict(batch), expected[: len(batch)], strict=True):
            np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
            np.testing.assert_allclose(one.saliency, other.saliency, atol=1e-4)


@pytest.mark.parametrize("full_batch", [True, False])
@pytest.mark.parametrize(("precision", "tolerance"), [("f32", 1e-3), (None, 0.02)])
def test_reference_predictions_of_a_pretrained_bundle_are_reproduced(
    precision: str | None, tolerance: float, *, full_batch: bool
) -> None:
    bundle = load_bundle("densenet121-aptos-224")
    reference = json.loads((DATA / "reference.json").read_text())
    enhanced = [cv2.imread(str(DATA / f"{name}_enhanced.png"), cv2.IMREAD_COLOR_RGB) for name in reference]
    engine = OpenVinoEngine(bundle, precision)
    engine.warm_up(len(enhanced) if full_batch else 1)
    predictions = engine.predict(enhanced)
    for prediction, expected in zip(predictions, reference.values(), strict=True):
        np.testing.assert_allclose(prediction.probabilities, expected["outputs"], rtol=0, atol=tolerance)
        assert decode_outputs(prediction.probabilities, bundle.thresholds).grade == expected["grade"]


def test_no_images_give_no_predictions(engine: OpenVinoEngine) -> None:
    assert engine.predict([]) == []


def test_wrong_image_is_named(engine: OpenVinoEngine) -> None:
    with pytest.raises(ValueError, match=r"image 1 is uint8 \(64, 64, 3\)"):
        engine.predict([pictures(1)[0], np.zeros((64, 64, 3), np.uint8)])


def test_value_that_is_not_finite_names_its_image() -> None:
    weights = random_weights()
    weights["head/bias"] = np.full(5, np.float32(3e38))
    weights["head/kernel"] = np.full_like(weights["head/kernel"], 3e38)
    engine = OpenVinoEngine(make_bundle(weights), "f32")
    with pytest.raises(ModelError, match="image 0 of 2 yields a value that is not finite"):
        engine.predict(pictures(2))
    with pytest.raises(ModelError, match="image 0 of 3 yields a value that is not finite"):
        engine.warm_up(3)


def test_tensorflow_is_not_imported() -> None:
    code = (
        "import sys\n"
        "from worker.model.bundle.bundle import load_bundle\n"
        "from worker.model.engines.openvino_engine import OpenVinoEngine\n"
        "OpenVinoEngine(load_bundle('densenet121-aptos-224')).warm_up(1)\n"
        "print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_setting_selects_the_engine(engine: OpenVinoEngine) -> None:
    assert isinstance(make_engine("openvino", engine.bundle), OpenVinoEngine)
    assert isinstance(make_engine("tensorflow", engine.bundle), TensorFlowEngine)
    assert (engine.description.engine, engine.description.precision) == ("openvino", Precision.FLOAT32)


def test_precision_is_that_of_the_setting(engine: OpenVinoEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("openvino", "tensorflow"):
        assert make_engine(name, engine.bundle, "float32").description.precision is Precision.FLOAT32  # type: ignore[arg-type]
    assert make_engine("tensorflow", engine.bundle, "bfloat16").description.precision is Precision.BFLOAT16
    with pytest.raises(SettingsError, match="openvino-int8 does not compute in float32"):
        make_engine("openvino-int8", engine.bundle, "float32")
    monkeypatch.setattr(openvino_executor, "fastest_float_precision", lambda: "f32")
    with pytest.raises(SettingsError, match="this processor has no bfloat16"):
        make_engine("openvino", engine.bundle, "bfloat16")


def test_layer_that_needs_gradients_is_explained_by_tensorflow() -> None:
    bundle = make_bundle(random_weights(), target_layer="conv4_block24_concat")
    assert isinstance(make_engine("auto", bundle), TensorFlowEngine)
    with pytest.raises(
        SettingsError, match="openvino has no gradients, which the target layer 'conv4_block24_concat' of random"
    ):
        make_engine("openvino", bundle)
