"""The one graph that grades and explains: a batch of enhanced images -> logits, probabilities, saliency."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from worker.imaging.recipe import Recipe
from worker.model.architecture import HEAD
from worker.model.bundle.bundle import Manifest
from worker.model.network import gradcam
from worker.model.network.build import get_backbone

Explained = tuple[tf.Tensor, tf.Tensor, tf.Tensor]
"""Logits (N, 5), probabilities (N, 5) and saliency (N, h, w), float32."""
Graph = Callable[[tf.Tensor, tf.Tensor], Explained]
ClassMapGraph = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""To logits (N, 5) and signed maps of all outputs (N, 5, h, w), float32."""


def build_graph(network: keras.Sequential, manifest: Manifest) -> Graph:
    """A function traced once for any batch size.

    Its input is float32 (N, S, S, 3) in [0, white] and the float32 scalar `white`: 255 for bytes, 1 for fractions. The
    saliency has the height and width of the manifest's target layer. Raises ModelError when there is no such layer.
    """
    if manifest.is_closed_form:
        explain = explain_last(network, manifest.thresholds, manifest.explained_outputs)
    else:
        explain = explain_layer(network, manifest.target_layer, manifest.thresholds, manifest.explained_outputs)

    graph: Graph = _trace(explain, manifest.recipe)
    return graph


def build_class_map_graph(network: keras.Sequential, recipe: Recipe) -> ClassMapGraph:
    """As `build_graph`, for a network that an ensemble averages: nothing is decided and nothing rectified."""
    backbone = get_backbone(network)

    def class_maps(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = backbone(images, training=False)
        maps = gradcam.class_maps_closed_form(features, network.get_layer(HEAD).kernel.value)
        return gradcam.compute_logits(features, network), maps

    graph: ClassMapGraph = _trace(class_maps, recipe)
    return graph


def explain_last(
    network: keras.Sequential, thresholds: tuple[float, ...], within: tuple[int, int]
) -> Callable[[tf.Tensor], Explained]:
    """The network's input, float32 (N, S, S, 3), to outputs and saliency at the last feature map; no backward pass.

    within: as `gradcam.find_explained_outputs`.
    """
    backbone = get_backbone(network)

    def explain(images: tf.Tensor) -> Explained:
        features = backbone(images, training=False)
        logits = gradcam.compute_logits(features, network)
        probabilities = tf.sigmoid(logits)
        explained = gradcam.find_explained_outputs(probabilities, thresholds, within)
        saliency = gradcam.explain_closed_form(features, network.get_layer(HEAD).kernel.value, explained)
        return logits, probabilities, saliency

    return explain


def explain_layer(
    network: keras.Sequential, layer: str, thresholds: tuple[float, ...], within: tuple[int, int]
) -> Callable[[tf.Tensor], Explained]:
    """The network's input to outputs and saliency at any named layer, by a backward pass to it.

    within: as `gradcam.find_explained_outputs`.
    Raises ModelError when the network has no such layer, or its output is no feature map.
    """
    split = gradcam.split_backbone(network, layer)

    def explain(images: tf.Tensor) -> Explained:
        with tf.GradientTape() as tape:
            features, last_features = split(images, training=False)
            tape.watch(features)
            logits = gradcam.compute_logits(last_features, network)
            probabilities = tf.sigmoid(logits)
            explained = gradcam.find_explained_outputs(probabilities, thresholds, within)
            # In inference the images of a batch do not see each other: the gradient of the sum is each one's own.
            explained_logits = tf.reduce_sum(tf.gather(logits, explained, batch_dims=1))
        gradients = tape.gradient(explained_logits, features)
        return logits, probabilities, gradcam.explain_by_tape(features, gradients)

    return explain


def _trace(look: Callable[[tf.Tensor], Any], recipe: Recipe) -> Any:
    """A graph of a function of the network's input, which takes pictures in [0, white] and puts them in its range."""
    side = recipe.input_size_px
    low, high = recipe.input_range
    return tf.function(
        lambda images, white: look(images * ((high - low) / white) + low),
        # There is no Python control flow to convert, and the conversion leaves files in the temporary folder.
        autograph=False,
        input_signature=[tf.TensorSpec((None, side, side, 3), tf.float32), tf.TensorSpec((), tf.float32)],
    )
