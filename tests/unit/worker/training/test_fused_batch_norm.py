"""Fused batch normalisation equals the layer of Keras up to rounding and keeps its names."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from worker.model.network.build import build_network, get_backbone, get_weights
from worker.training.fused_batch_norm import BatchNormalization, fuse_batch_norm

INPUTS = np.random.default_rng(0).normal(3.0, 2.0, (4, 5, 6, 8)).astype(np.float32)
WEIGHTS = [np.random.default_rng(seed).uniform(0.5, 1.5, 8).astype(np.float32) for seed in range(4)]

Figures = dict[str, NDArray[np.float32]]


def pass_through(layer: keras.layers.BatchNormalization, *, training: bool) -> Figures:
    """Return outputs, gradients and moving statistics of a layer."""
    inputs = tf.constant(INPUTS)
    layer.build(INPUTS.shape)
    layer.set_weights(WEIGHTS)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, training=training)
        loss = tf.reduce_sum(outputs**3)
    variables = [variable.value for variable in layer.trainable_variables]
    gradients = tape.gradient(loss, [inputs, *variables])
    named = {"outputs": outputs, "moving_mean": layer.moving_mean, "moving_variance": layer.moving_variance}
    named |= {f"gradient {index}": gradient for index, gradient in enumerate(gradients)}
    return {name: np.asarray(value).copy() for name, value in named.items()}


@pytest.mark.parametrize("mode", ["training", "inference"])
def test_outputs_gradients_and_statistics_equal_those_of_keras(mode: str) -> None:
    training = mode == "training"
    ours = pass_through(BatchNormalization(momentum=0.9, epsilon=1.001e-5), training=training)
    keras_own = pass_through(keras.layers.BatchNormalization(momentum=0.9, epsilon=1.001e-5), training=training)
    assert ours.keys() == keras_own.keys()
    assert len(ours) == 6
    for name, expected in keras_own.items():
        assert ours[name] == pytest.approx(expected, rel=1e-4, abs=1e-3), name
    assert (np.abs(ours["moving_mean"] - WEIGHTS[2]).max() > 0.1) == training


def test_training_uses_only_the_fused_operation() -> None:
    layer = BatchNormalization()
    graph = tf.function(lambda inputs: layer(inputs, training=True)).get_concrete_function(tf.TensorSpec(INPUTS.shape))
    kinds = [operation.type for operation in graph.graph.get_operations()]
    assert kinds.count("FusedBatchNormV3") == 1
    assert not {"Mean", "SquaredDifference", "Rsqrt"} & set(kinds)


def test_layer_without_scale_and_centre_is_fused_too() -> None:
    layer = BatchNormalization(scale=False, center=False, epsilon=1e-6)
    outputs = np.asarray(layer(tf.constant(INPUTS), training=True))
    expected = (INPUTS - INPUTS.mean(axis=(0, 1, 2))) / INPUTS.std(axis=(0, 1, 2))
    assert outputs == pytest.approx(expected, abs=1e-4)


def test_inputs_without_spatial_axes_are_delegated_to_keras() -> None:
    flat = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)
    outputs = np.asarray(BatchNormalization(epsilon=1e-6)(tf.constant(flat), training=True))
    assert outputs == pytest.approx((flat - flat.mean(axis=0)) / flat.std(axis=0), abs=1e-4)


@pytest.mark.parametrize("architecture", ["mobilenet", "inceptionv3", "convnexttiny"])
def test_weights_and_their_names_stay(architecture: str) -> None:
    network = build_network(96, architecture)
    before = get_weights(network)
    fuse_batch_norm(network)
    after = get_weights(network)
    assert after.keys() == before.keys()
    assert all(after[name].tobytes() == weights.tobytes() for name, weights in before.items())
    normalizing = [
        layer for layer in get_backbone(network).layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert all(isinstance(layer, BatchNormalization) for layer in normalizing)
    assert len(normalizing) == {"mobilenet": 27, "inceptionv3": 94, "convnexttiny": 0}[architecture]


def test_fused_network_trains_with_the_fused_operation() -> None:
    network = build_network(32, "mobilenet")
    fuse_batch_norm(network)
    learn = tf.function(lambda inputs: get_backbone(network)(inputs, training=True))
    graph = learn.get_concrete_function(tf.TensorSpec((2, 32, 32, 3))).graph
    kinds = [operation.type for operation in graph.get_operations()]
    assert kinds.count("FusedBatchNormV3") == 27
