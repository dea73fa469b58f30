import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from tests.unit.worker.model.networks import SIDE, make_bundle, make_manifest, random_weights
from worker.core.errors import ModelError
from worker.model.architecture import DENSENET121
from worker.model.class_activation_maps import ClassMaps, explain, to_saliency
from worker.model.network import graph
from worker.model.network.build import load_network
from worker.model.network.gradcam import compute_class_maps, compute_logits, find_explained_outputs, find_feature_layer
from worker.model.network.graph import build_layer_explainer
from worker.model.ordinal import ALL_OUTPUTS

HALF = (0.5,) * 5
Explained = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def explain_last(network: keras.Sequential, images: NDArray[np.float32]) -> Explained:
    """Logits, probabilities and saliency in closed form, as engines compute them."""
    logits, maps = (part.numpy() for part in graph.build_class_map_function(network)(images))
    return logits, *explain(ClassMaps(logits, maps), HALF, ALL_OUTPUTS)


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    """Eight pictures with different brightness and texture."""
    rng = np.random.default_rng(1)
    levels = np.linspace(-1, 1, 8).reshape(8, 1, 1, 1)
    return (levels + rng.normal(0, 0.5, (8, SIDE, SIDE, 3))).astype(np.float32)


@pytest.fixture(scope="module")
def network(images: NDArray[np.float32]) -> keras.Sequential:
    """Random weights, with a head's bias by which about half of the pictures pass each output."""
    network = load_network(make_bundle(random_weights()))
    head = network.get_layer("head")
    features = network.get_layer(DENSENET121)(images, training=False)
    head.bias.assign(head.bias - np.median(compute_logits(features, network), axis=0))
    return network


def tape_of_one(network: keras.Sequential, image: NDArray[np.float32], output: int) -> NDArray[np.float32]:
    """Grad-CAM of one picture by the paper's definition: alpha is the mean of a logit's gradient over the pixels."""
    head = network.get_layer("head")
    with tf.GradientTape() as tape:
        features = network.get_layer(DENSENET121)(image[None], training=False)
        tape.watch(features)
        pooled = network.layers[1](features)
        logit = (pooled @ head.kernel + head.bias)[0, output]
    alpha = tape.gradient(logit, features).numpy()[0].mean(axis=(0, 1))
    saliency = np.maximum((features.numpy()[0] * alpha).sum(axis=-1), 0)
    return saliency / saliency.max() if saliency.any() else saliency


def test_closed_form_equals_each_images_own_tape(network: keras.Sequential, images: NDArray[np.float32]) -> None:
    _, probabilities, saliency, _ = explain_last(network, images)
    explained = [max(np.flatnonzero(row > 0.5), default=0) for row in probabilities]
    assert len(set(explained)) >= 3
    for image, output, got in zip(images, explained, saliency, strict=True):
        assert np.abs(got - tape_of_one(network, image, output)).max() < 1e-5
    assert (saliency.max(axis=(1, 2)) == 1).sum() >= 4


def test_closed_form_equals_the_tape_at_the_last_layer(network: keras.Sequential, images: NDArray[np.float32]) -> None:
    closed = explain_last(network, images)
    taped = build_layer_explainer(network, make_manifest(target_layer="relu"))(images)
    for ours, oracle in zip(closed, taped, strict=True):
        assert np.abs(ours - oracle).max() < 1e-5


@pytest.mark.parametrize("layer", ["relu", "conv4_block24_concat"])
def test_map_does_not_depend_on_the_batch(network: keras.Sequential, images: NDArray[np.float32], layer: str) -> None:
    taped = build_layer_explainer(network, make_manifest(target_layer=layer))

    def saliency(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return explain_last(network, images)[2] if layer == "relu" else taped(images)[2].numpy()

    together = saliency(images)
    for index, image in enumerate(images):
        assert np.abs(together[index] - saliency(image[None])[0]).max() < 1e-5


def test_closed_form_equals_the_tape_for_each_output(network: keras.Sequential, images: NDArray[np.float32]) -> None:
    features = network.get_layer(DENSENET121)(images[:5], training=False)
    kernel = network.get_layer("head").kernel.value
    saliency, _ = to_saliency(compute_class_maps(features, kernel).numpy(), np.arange(5))
    for output, (image, got) in enumerate(zip(images, saliency, strict=False)):
        assert np.abs(got - tape_of_one(network, image, output)).max() < 1e-5


def test_map_of_an_inner_layer_equals_that_of_a_network_split_there(
    network: keras.Sequential, images: NDArray[np.float32]
) -> None:
    backbone = network.get_layer(DENSENET121)
    cut = backbone.get_layer("pool3_conv").output
    front, back = keras.Model(backbone.input, cut), keras.Model(cut, backbone.output)
    _, probabilities, saliency, _ = (
        part.numpy() for part in build_layer_explainer(network, make_manifest(target_layer="pool3_conv"))(images)
    )
    assert saliency.shape == (8, SIDE // 8, SIDE // 8)
    assert (saliency.max(axis=(1, 2)) == 1).sum() >= 4
    for image, row, got in zip(images, probabilities, saliency, strict=True):
        with tf.GradientTape() as tape:
            features = front(image[None], training=False)
            tape.watch(features)
            logit = compute_logits(back(features, training=False), network)[
                0, max(np.flatnonzero(row > 0.5), default=0)
            ]
        alpha = tape.gradient(logit, features).numpy()[0].mean(axis=(0, 1))
        expected = np.maximum((features.numpy()[0] * alpha).sum(axis=-1), 0)
        assert np.abs(got - expected / max(expected.max(), 1e-30)).max() < 1e-4


def test_saliency_by_hand() -> None:
    # Two channels of 1 x 2 pixels; output 0 has the weights 2 and -1, output 1 has -1 and -1.
    features = tf.constant([[[[1.0, 0.0], [3.0, 2.0]]], [[[1.0, 0.0], [3.0, 2.0]]]])
    kernel = tf.constant([[2.0, -1.0], [-1.0, -1.0]])
    saliency, evidence = to_saliency(compute_class_maps(features, kernel).numpy(), np.array([0, 1]))
    np.testing.assert_array_equal(saliency, [[[0.5, 1.0]], [[0.0, 0.0]]])
    np.testing.assert_array_equal(evidence, [4, 0])  # 2 * 3 - 1 * 2 at the right pixel


def test_explained_output_is_the_highest_one_passed() -> None:
    probabilities = tf.constant([[0.9, 0.4, 0.7, 0.1, 0.2], [0.4, 0.1, 0.1, 0.1, 0.1], [0.9, 0.9, 0.9, 0.9, 0.31]])
    thresholds = (0.5, 0.5, 0.5, 0.5, 0.3)
    np.testing.assert_array_equal(find_explained_outputs(probabilities, thresholds, ALL_OUTPUTS), [2, 0, 4])
    np.testing.assert_array_equal(find_explained_outputs(probabilities, thresholds, (1, 3)), [2, 1, 3])


def test_unknown_layer_is_named(network: keras.Sequential) -> None:
    with pytest.raises(ModelError, match="no layer 'conv9'"):
        find_feature_layer(network, "conv9")
