import json
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from structlog.testing import capture_logs

from tests.unit.worker.model.networks import (
    SIDE,
    make_bundle,
    make_small_bundle,
    random_backbone_weights,
    random_weights,
)
from worker.core.errors import AcceleratorMemoryError, ModelError
from worker.core.predictions import Prediction
from worker.core.vocabulary import Precision
from worker.model.bundle.bundle import load_bundle
from worker.model.engines.protocol import Engine
from worker.model.engines.tensorflow_engine import TensorFlowEngine, translate_memory_errors
from worker.model.network.build import load_network
from worker.model.ordinal import decode_outputs

DATA = Path(__file__).parents[4] / "data" / "model"
INNER = "conv_pw_11_relu"
"""Its output has the side of the picture divided by 16, that of the last layer by 32."""


@pytest.fixture(scope="module")
def engine() -> Engine:
    return TensorFlowEngine(make_small_bundle())


def pictures(count: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8))


def assert_close(got: list[Prediction], expected: list[Prediction]) -> None:
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
        np.testing.assert_allclose(one.saliency, other.saliency, atol=1e-4)


def test_pretrained_bundle_reproduces_the_recorded_predictions() -> None:
    bundle = load_bundle("densenet121-aptos-224")
    reference = json.loads((DATA / "reference.json").read_text())
    enhanced = [cv2.imread(str(DATA / f"{name}_enhanced.png"), cv2.IMREAD_COLOR_RGB) for name in reference]
    predictions = TensorFlowEngine(bundle).predict(enhanced)
    for prediction, expected in zip(predictions, reference.values(), strict=True):
        np.testing.assert_allclose(prediction.probabilities, expected["outputs"], rtol=0, atol=1e-3)
        np.testing.assert_allclose(prediction.saliency, expected["saliency"], rtol=0, atol=2e-3)
        assert decode_outputs(prediction.probabilities, bundle.thresholds).grade == expected["grade"]


def test_probabilities_equal_those_of_the_keras_network_in_the_recipes_range(engine: Engine) -> None:
    images = pictures(3)
    # The recipe's range is [-1, 1].
    expected = load_network(engine.bundle).predict(np.stack(images).astype(np.float32) / 127.5 - 1, verbose=0)
    for prediction, row in zip(engine.predict(images), expected, strict=True):
        np.testing.assert_allclose(prediction.probabilities, row, atol=1e-5)
        assert prediction.probabilities.dtype == prediction.saliency.dtype == np.float32
        assert prediction.saliency.shape == (3, 3)


def test_uint8_float32_and_mixed_batches_give_equal_predictions(engine: Engine) -> None:
    images = pictures(4)
    fractions = [image.astype(np.float32) / 255 for image in images]
    expected = engine.predict(images)
    assert_close(engine.predict(fractions), expected)
    assert_close(engine.predict([images[0], fractions[1], fractions[2], images[3]]), expected)


def test_prediction_does_not_depend_on_the_batch(engine: Engine) -> None:
    images = pictures(5)
    together = engine.predict(images)
    assert_close([engine.predict([image])[0] for image in images], together)
    assert_close(engine.predict(images[::-1])[::-1], together)


@pytest.mark.parametrize("layer", ["last", INNER])
def test_temperature_divides_the_logits_and_keeps_the_map(layer: str) -> None:
    plain = TensorFlowEngine(make_small_bundle(target_layer=layer)).predict(pictures(2))
    scaled = TensorFlowEngine(make_small_bundle(target_layer=layer, temperature=2.0)).predict(pictures(2))
    for one, other in zip(plain, scaled, strict=True):
        logits = np.log(one.probabilities / (1 - one.probabilities))
        np.testing.assert_allclose(other.probabilities, 1 / (1 + np.exp(-logits / 2)), atol=1e-5)
        np.testing.assert_allclose(other.saliency, one.saliency, atol=1e-4)


def test_no_images_give_no_predictions(engine: Engine) -> None:
    assert engine.predict([]) == []


def test_graph_is_traced_once_for_all_batch_sizes_and_types() -> None:
    engine = TensorFlowEngine(make_small_bundle())
    engine.warm_up(2)
    engine.predict(pictures(1))
    engine.predict(pictures(3))
    engine.predict([image.astype(np.float32) / 255 for image in pictures(2)])
    assert engine._graph.experimental_get_tracing_count() == 1


def test_another_target_layer_changes_the_map_and_not_the_outputs(engine: Engine) -> None:
    images = pictures(2)
    inner = TensorFlowEngine(make_small_bundle(target_layer=INNER))
    for one, other in zip(inner.predict(images), engine.predict(images), strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
        assert one.saliency.shape == (SIDE // 16, SIDE // 16)


def test_layer_before_the_last_has_no_class_maps() -> None:
    inner = TensorFlowEngine(make_small_bundle(target_layer=INNER))
    with pytest.raises(ModelError, match=f"random has no class maps: it is explained at '{INNER}'"):
        inner.class_maps(pictures(1))


def test_saturated_output_still_has_a_map() -> None:
    # With weights of one sign, features can only increase the logit.
    head = {
        "head/bias": np.array([0, 0, 0, 0, 200], np.float32),
        "head/kernel": np.abs(random_backbone_weights()["head/kernel"]),
    }
    prediction = TensorFlowEngine(make_small_bundle(head)).predict(pictures(1))[0]
    assert prediction.probabilities[4] == 1
    assert prediction.saliency.max() == 1


def test_map_without_positive_evidence_is_zero_everywhere() -> None:
    head = {"head/kernel": -np.abs(random_backbone_weights()["head/kernel"])}
    prediction = TensorFlowEngine(make_small_bundle(head)).predict(pictures(1))[0]
    np.testing.assert_array_equal(prediction.saliency, np.zeros((3, 3)))


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.zeros((64, 64, 3), np.uint8), r"image 1 is uint8 \(64, 64, 3\), uint8 or float32 \(96, 96, 3\) is needed"),
        (np.zeros((96, 96, 3), np.float64), r"image 1 is float64 \(96, 96, 3\), uint8 or float32 \(96, 96, 3\)"),
        (np.full((96, 96, 3), 2, np.float32), r"image 1 has values from 2\.0 to 2\.0, \[0, 1\] is needed"),
        (np.full((96, 96, 3), np.nan, np.float32), "image 1 has values from nan to nan"),
    ],
)
def test_wrong_image_is_named(engine: Engine, image: NDArray[np.float32], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        engine.predict([pictures(1)[0], image])


def test_value_that_is_not_finite_names_its_image() -> None:
    weights = random_weights()
    # A black picture is zero after the first normalisation, a white one overflows in later layers.
    weights["conv1_conv/kernel"] = np.ones_like(weights["conv1_conv/kernel"])
    weights["conv1_bn/beta"] = np.zeros_like(weights["conv1_bn/beta"])
    weights["conv1_bn/gamma"] = np.full_like(weights["conv1_bn/gamma"], 1e38)
    engine = TensorFlowEngine(make_bundle(weights))
    dark, bright = (np.full((SIDE, SIDE, 3), level, np.uint8) for level in (0, 255))
    assert len(engine.predict([dark])) == 1
    with pytest.raises(ModelError, match="image 1 of 3 yields a value that is not finite"):
        engine.predict([dark, bright, dark])


def test_exhausted_memory_names_the_batch_size() -> None:
    # A real allocation of that size raises the same class, after TensorFlow has waited ten seconds for memory.
    exhausted = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    with (
        pytest.raises(AcceleratorMemoryError, match="a batch of 16 images does not fit"),
        translate_memory_errors(16),
    ):
        raise exhausted


def test_engine_is_described(engine: Engine) -> None:
    assert engine.description.engine == "tensorflow"
    assert engine.description.device
    assert engine.description.libraries == {"keras": keras.__version__, "tensorflow": tf.__version__}


@pytest.mark.parametrize("built_for_gpus", [True, False])
def test_gpu_build_without_a_gpu_logs_a_warning(monkeypatch: pytest.MonkeyPatch, *, built_for_gpus: bool) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: built_for_gpus)
    with capture_logs() as log:
        description = TensorFlowEngine(make_small_bundle()).description
    assert description.precision is Precision.FLOAT32
    assert [line["event"] for line in log] == ["no_gpu"] * built_for_gpus
