"""Backbones other than DenseNet-121: their last feature map is found and explained in closed form."""

from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray

from tests.unit.worker.model.networks import draw_weight, make_small_bundle, random_backbone_weights
from worker.core.errors import ModelError, SettingsError
from worker.imaging.recipe import Recipe
from worker.model.architecture import HEAD
from worker.model.bundle.bundle import Bundle, Manifest, load_bundle
from worker.model.bundle.ensemble import Ensemble, EnsembleManifest, Member
from worker.model.bundle.writer import write_bundle
from worker.model.class_activation_maps import sigmoid
from worker.model.engines.factory import make_engine
from worker.model.engines.tensorflow_engine import TensorFlowEngine
from worker.model.network.build import (
    assign_weights,
    build_network,
    get_backbone,
    includes_rescaling,
    list_backbones,
    load_network,
)
from worker.model.weights_import.backbone_weights import read_backbone_weights
from worker.model.weights_import.importer import import_weights

SIDE = 96
PICTURES = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)


def make(architecture: str, input_range: tuple[float, float] = (-1.0, 1.0), **others: object) -> Bundle:
    """Random weights by which activations neither vanish nor overflow, and a head of one sign for non-zero maps."""
    weights = random_backbone_weights(architecture, SIDE)
    weights[f"{HEAD}/kernel"] = np.abs(weights[f"{HEAD}/kernel"])
    recipe = Recipe(input_size_px=SIDE, input_range=input_range, crop="none", enhancement="none")
    manifest = Manifest(
        name="other",
        architecture=architecture,
        recipe=recipe,
        training_data="none",
        licence="CC0",
        weights_sha256="0" * 64,
        **others,  # type: ignore[arg-type]
    )
    return Bundle(manifest, MappingProxyType(weights))


@pytest.fixture(scope="module")
def mobile() -> Bundle:
    return make("mobilenetv2")


@pytest.fixture(scope="module")
def efficient() -> Bundle:
    return make("efficientnetb0", (0.0, 255.0))


def explain_by_tape(
    network: keras.Model, input_range: tuple[float, float], layer: str, picture: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Grad-CAM of the highest output passed, by the paper's definition, on the Keras network."""
    backbone = get_backbone(network)
    split = keras.Model(backbone.input, [backbone.get_layer(layer).output, backbone.output])
    low, high = input_range
    with tf.GradientTape() as tape:
        features, last = split(picture[None].astype(np.float32) * ((high - low) / 255) + low, training=False)
        tape.watch(features)
        head = network.get_layer(HEAD)
        logits = tf.linalg.matmul(tf.reduce_mean(last, axis=(1, 2)), head.kernel.value) + head.bias.value
        explained = max(np.flatnonzero(logits.numpy()[0] > 0), default=0)
        logit = logits[0, explained]
    weights = tf.reduce_mean(tape.gradient(logit, features)[0], axis=(0, 1))
    map_ = np.maximum((features.numpy()[0] * weights.numpy()).sum(axis=-1), 0)
    return np.asarray(map_ / map_.max(), np.float32)


def test_last_layer_is_found_and_explained_in_closed_form(mobile: Bundle) -> None:
    assert mobile.manifest.target_layer == "last"
    assert mobile.manifest.is_closed_form
    engine = make_engine("auto", mobile)
    assert isinstance(engine, TensorFlowEngine)
    network = load_network(mobile)
    assert get_backbone(network).layers[-1].name == "out_relu"
    predictions = engine.predict(list(PICTURES))
    expected = network(PICTURES.astype(np.float32) / 127.5 - 1, training=False).numpy()
    for picture, prediction, outputs in zip(PICTURES, predictions, expected, strict=True):
        assert prediction.probabilities == pytest.approx(outputs, abs=1e-5)
        assert prediction.saliency.shape == (3, 3)
        assert prediction.saliency == pytest.approx(explain_by_tape(network, (-1, 1), "out_relu", picture), abs=1e-4)


def test_layer_before_the_last_is_explained_from_gradients() -> None:
    bundle = make("mobilenetv2", target_layer="block_12_add")
    assert not bundle.manifest.is_closed_form
    (prediction,) = make_engine("tensorflow", bundle).predict([PICTURES[0]])
    assert prediction.saliency.shape == (6, 6)
    assert prediction.saliency == pytest.approx(
        explain_by_tape(load_network(bundle), (-1, 1), "block_12_add", PICTURES[0]), abs=1e-4
    )


def test_backbone_with_its_own_scaling_needs_uint8_range(efficient: Bundle) -> None:
    network = load_network(efficient)
    assert includes_rescaling(network)
    assert not includes_rescaling(build_network(SIDE, "mobilenetv2"))
    (prediction,) = make_engine("tensorflow", efficient).predict([PICTURES[0]])
    expected = network(PICTURES[:1].astype(np.float32), training=False).numpy()
    assert prediction.probabilities == pytest.approx(expected[0], abs=1e-5)
    assert prediction.saliency == pytest.approx(
        explain_by_tape(network, (0, 255), "top_activation", PICTURES[0]), abs=1e-4
    )


def test_bundle_of_another_backbone_is_written_and_read(mobile: Bundle, tmp_path: Path) -> None:
    write_bundle(tmp_path / "mobile", mobile.manifest, mobile.weights)
    read = load_bundle(tmp_path / "mobile")
    assert read.manifest.architecture == "mobilenetv2"
    assert dict(read.weights).keys() == dict(mobile.weights).keys()
    first, again = (make_engine("auto", one).predict([PICTURES[0]])[0] for one in (mobile, read))
    assert np.array_equal(first.probabilities, again.probabilities)


def test_scalar_count_of_a_normalisation_stays_a_scalar(efficient: Bundle, tmp_path: Path) -> None:
    write_bundle(tmp_path / "efficient", efficient.manifest, efficient.weights)
    read = load_bundle(tmp_path / "efficient").weights
    assert read["normalization/count"].shape == ()
    assign_weights(build_network(SIDE, "efficientnetb0"), read)


def test_ensemble_of_two_backbones_averages_their_logits(mobile: Bundle) -> None:
    other = make_small_bundle()
    members = (Member(manifest=other.manifest), Member(manifest=mobile.manifest, weight=3.0))
    both = Ensemble(EnsembleManifest(name="both", members=members), (other, mobile))
    logits = [make_engine("tensorflow", one).class_maps(list(PICTURES)).logits for one in (other, mobile)]
    found = make_engine("tensorflow", both).predict(list(PICTURES))
    expected = sigmoid((0.25 * logits[0] + 0.75 * logits[1]).astype(np.float32))
    assert np.stack([one.probabilities for one in found]) == pytest.approx(expected, abs=1e-5)


def test_openvino_does_not_support_other_backbones(mobile: Bundle) -> None:
    with pytest.raises(SettingsError, match="supports densenet121 and EfficientNet-Lite; other is mobilenetv2"):
        make_engine("openvino", mobile)


def test_backbone_that_keras_does_not_have_is_rejected() -> None:
    assert {"densenet121", "mobilenetv2", "efficientnetb0", "resnet50", "convnexttiny"} <= list_backbones().keys()
    with pytest.raises(ModelError, match=r"unknown backbone 'resnet51'; known are .*efficientnetlite2.*resnet50"):
        build_network(SIDE, "resnet51")
    with pytest.raises(ModelError, match="inceptionv3 does not support an input of 32 x 32 pixels"):
        build_network(32, "inceptionv3")


def test_weights_of_another_backbone_are_rejected(mobile: Bundle) -> None:
    network = build_network(SIDE, "mobilenetv2")
    with pytest.raises(ModelError, match="weights are not in the network"):
        assign_weights(network, {**mobile.weights, "more/kernel": np.zeros(1, np.float32)})
    with pytest.raises(ModelError, match=r"1 of \d+ weights are missing, one is head/bias"):
        assign_weights(network, {name: one for name, one in mobile.weights.items() if name != "head/bias"})
    with pytest.raises(ModelError, match=r"Conv1/kernel has the shape \(3, 3, 3, 8\), \(3, 3, 3, 32\) is needed"):
        assign_weights(network, {**mobile.weights, "Conv1/kernel": np.zeros((3, 3, 3, 8), np.float32)})


def old_network() -> Any:
    """MobileNetV2 in Keras 2; no variable has the value of a new network."""
    network = tf_keras.Sequential(
        [
            tf_keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(SIDE, SIDE, 3)),
            tf_keras.layers.GlobalAveragePooling2D(),
            tf_keras.layers.Dense(5, activation="sigmoid"),
        ]
    )
    rng = np.random.default_rng(3)
    for variable in network.variables:
        variable.assign(draw_weight(variable.name.removesuffix(":0"), tuple(variable.shape), rng))
    return network


def test_keras_2_h5_gives_the_same_predictions(tmp_path: Path) -> None:
    network = old_network()
    network.save_weights(tmp_path / "mobile.h5")
    recipe = Recipe(input_size_px=SIDE, input_range=(-1.0, 1.0), crop="none", enhancement="none")
    import_weights(tmp_path / "mobile.h5", tmp_path / "b", recipe=recipe, name="old", architecture="mobilenetv2")
    engine = make_engine("auto", load_bundle(tmp_path / "b"))
    expected = network(PICTURES.astype(np.float32) / 127.5 - 1, training=False).numpy()
    found = np.stack([one.probabilities for one in engine.predict(list(PICTURES))])
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
@pytest.mark.parametrize("flat", [False, True])
def test_keras_3_files_give_all_weights_of_a_backbone(
    mobile: Bundle, tmp_path: Path, suffix: str, *, flat: bool
) -> None:
    network = build_network(SIDE, "mobilenetv2")
    assign_weights(network, mobile.weights)
    if flat:
        output = get_backbone(network).output
        for layer in network.layers[1:]:
            output = layer(output)
        network = keras.Model(get_backbone(network).input, output)
    file = tmp_path / f"model{suffix}"
    network.save_weights(file) if suffix == ".weights.h5" else network.save(file)
    read = read_backbone_weights(file.read_bytes(), architecture="mobilenetv2", input_size_px=SIDE, source="f")
    assert read.keys() == mobile.weights.keys()
    assert all(np.array_equal(read[name], array) for name, array in mobile.weights.items())


def test_file_of_another_backbone_is_rejected(tmp_path: Path) -> None:
    build_network(SIDE, "mobilenet").save_weights(tmp_path / "other.weights.h5")
    data = (tmp_path / "other.weights.h5").read_bytes()
    with pytest.raises(ModelError, match=r"f: .*(belongs to no layer|missing|has the shape)"):
        read_backbone_weights(data, architecture="mobilenetv2", input_size_px=SIDE, source="f")
