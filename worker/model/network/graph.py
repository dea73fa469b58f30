"""TensorFlow graphs that grade and explain a batch of enhanced images."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from worker.imaging.recipe import Recipe
from worker.model.architecture import HEAD
from worker.model.bundle.bundle import Manifest
from worker.model.bundle.familiarity import FeatureSpace
from worker.model.network import gradcam
from worker.model.network.build import get_backbone

ClassMapTensors = tuple[tf.Tensor, ...]
"""Logits (N, 5), signed maps of all outputs (N, 5, h, w) and, with a feature space, projections (N, K), float32."""
ExplainedTensors = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]
"""Logits (N, 5), probabilities (N, 5), saliency (N, h, w) and evidence (N,), float32."""


def build_class_map_graph(
    network: keras.Sequential, recipe: Recipe, feature_space: FeatureSpace | None = None
) -> Callable[[tf.Tensor, tf.Tensor], ClassMapTensors]:
    """Return a function to logits and class maps at the last feature map, traced once for all batch sizes.

    Its inputs are the images, float32 (N, S, S, 3) in [0, white], and the float32 scalar `white`: 255 for images of
    bytes, 1 for fractions.
    """
    graph: Callable[[tf.Tensor, tf.Tensor], ClassMapTensors] = _trace(
        build_class_map_function(network, feature_space), recipe
    )
    return graph


def build_gradient_graph(
    network: keras.Sequential, manifest: Manifest
) -> Callable[[tf.Tensor, tf.Tensor], ExplainedTensors]:
    """Return a function to outputs and saliency at the manifest's target layer, with inputs as the class map graph.

    The saliency has the height and width of that layer. Raises ModelError if the network has no such layer.
    """
    explain = build_layer_explainer(network, manifest.target_layer, manifest.thresholds, manifest.explained_outputs)
    graph: Callable[[tf.Tensor, tf.Tensor], ExplainedTensors] = _trace(explain, manifest.recipe)
    return graph


def build_class_map_function(
    network: keras.Sequential, feature_space: FeatureSpace | None = None
) -> Callable[[tf.Tensor], ClassMapTensors]:
    """Return a function from the network's input, float32 (N, S, S, 3), to logits and class maps; no backward pass."""
    backbone = get_backbone(network)

    def class_maps(images: tf.Tensor) -> ClassMapTensors:
        features = backbone(images, training=False)
        maps = gradcam.compute_class_maps(features, network.get_layer(HEAD).kernel.value)
        logits = gradcam.compute_logits(features, network)
        if feature_space is None:
            return logits, maps
        return logits, maps, tf.linalg.matmul(tf.reduce_mean(features, axis=(1, 2)), feature_space.directions)

    return class_maps


def build_layer_explainer(
    network: keras.Sequential, layer: str, thresholds: tuple[float, ...], explained_outputs: tuple[int, int]
) -> Callable[[tf.Tensor], ExplainedTensors]:
    """Return a function from the network's input to outputs and saliency at a named layer, by a backward pass to it.

    explained_outputs: as for `gradcam.find_explained_outputs`.
    Raises ModelError if the network has no such layer, or the layer's output is not a feature map.
    """
    split = gradcam.split_backbone(network, layer)

    def explain(images: tf.Tensor) -> ExplainedTensors:
        with tf.GradientTape() as tape:
            features, last_features = split(images, training=False)
            tape.watch(features)
            logits = gradcam.compute_logits(last_features, network)
            probabilities = tf.sigmoid(logits)
            explained = gradcam.find_explained_outputs(probabilities, thresholds, explained_outputs)
            # In inference mode the images of a batch are independent: the gradient of the sum is that of each image.
            explained_logits = tf.reduce_sum(tf.gather(logits, explained, batch_dims=1))
        gradients = tape.gradient(explained_logits, features)
        return logits, probabilities, *gradcam.explain_from_gradients(features, gradients)

    return explain


def _trace(function: Callable[[tf.Tensor], Any], recipe: Recipe) -> Any:
    """Trace a function of the network's input, preceded by the scaling of images from [0, white] to its range."""
    side = recipe.input_size_px
    low, high = recipe.input_range
    return tf.function(
        lambda images, white: function(images * ((high - low) / white) + low),
        # There is no Python control flow to convert, and the conversion leaves files in the temporary folder.
        autograph=False,
        input_signature=[tf.TensorSpec((None, side, side, 3), tf.float32), tf.TensorSpec((), tf.float32)],
    )
