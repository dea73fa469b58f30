"""Functions that grade and explain a batch of enhanced images, for a backend to compile."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
from keras import ops

from worker.imaging.recipe import Recipe
from worker.model.architecture import HEAD
from worker.model.bundle.bundle import Bundle, Manifest
from worker.model.bundle.familiarity import FeatureSpace
from worker.model.network import gradcam
from worker.model.network.build import get_backbone
from worker.model.network.tensors import Tensor, compute_gradient

ClassMapTensors = tuple[Tensor, ...]
"""Logits (N, 5), signed maps of all outputs (N, 5, h, w) and, with a feature space, projections (N, K), float32."""
ExplainedTensors = tuple[Tensor, Tensor, Tensor, Tensor]
"""Logits (N, 5), probabilities (N, 5), saliency (N, h, w) and evidence (N,), float32."""
ImageFunction = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
"""A function of images (N, S, S, 3) in [0, white] and of the value of white: 255 for bytes, 1 for fractions."""


def build_image_function(bundle: Bundle, network: keras.Sequential) -> ImageFunction:
    """Return the function of a bundle's images to ClassMapTensors, or to ExplainedTensors at its target layer.

    Raises ModelError if the network has no such layer.
    """
    function = (
        build_class_map_function(network, bundle.feature_space)
        if bundle.manifest.is_closed_form
        else build_layer_explainer(network, bundle.manifest)
    )
    return lambda images, white: function(scale_images(images, white, bundle.recipe))


def scale_images(images: Tensor, white: Tensor, recipe: Recipe) -> Tensor:
    """Return the network's input, float32 in the recipe's range, for images in [0, white]."""
    low, high = recipe.input_range
    return ops.cast(images, "float32") * ((high - low) / white) + low


def build_class_map_function(
    network: keras.Sequential, feature_space: FeatureSpace | None = None
) -> Callable[[Tensor], ClassMapTensors]:
    """Return a function from the network's input, float32 (N, S, S, 3), to logits and class maps; no backward pass."""
    backbone = get_backbone(network)

    def class_maps(images: Tensor) -> ClassMapTensors:
        # The head runs in float32: bfloat16 resolves probabilities only to 0.004.
        features = ops.cast(backbone(images, training=False), "float32")
        maps = gradcam.compute_class_maps(features, network.get_layer(HEAD).kernel.value)
        logits = gradcam.compute_logits(features, network)
        if feature_space is None:
            return logits, maps
        return logits, maps, ops.matmul(ops.mean(features, axis=(1, 2)), feature_space.directions)

    return class_maps


def build_layer_explainer(network: keras.Sequential, manifest: Manifest) -> Callable[[Tensor], ExplainedTensors]:
    """Return a function from the network's input to outputs and saliency, by a backward pass to the target layer.

    The saliency has the height and width of that layer. Raises ModelError if the network has no such layer, or the
    layer's output is not a feature map.
    """
    backbone, layer = get_backbone(network), gradcam.find_feature_layer(network, manifest.target_layer)

    def explain(images: Tensor) -> ExplainedTensors:
        def explained_logits(shift: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
            with _shifted(layer, shift) as outputs:
                last_features = ops.cast(backbone(images, training=False), "float32")
            logits = gradcam.compute_logits(last_features, network)
            probabilities = ops.sigmoid(logits)
            explained = gradcam.find_explained_outputs(probabilities, manifest.thresholds, manifest.explained_outputs)
            own = logits * ops.one_hot(explained, logits.shape[1], dtype="float32")
            # In inference mode the images of a batch are independent: the gradient of the sum is that of each image.
            return ops.sum(own), (logits, probabilities, outputs[0])

        shape = (ops.shape(images)[0], *layer.output.shape[1:])
        (logits, probabilities, features), gradients = compute_gradient(explained_logits, ops.zeros(shape, "float32"))
        return logits, probabilities, *gradcam.explain_from_gradients(ops.cast(features, "float32"), gradients)

    return explain


@contextmanager
def _shifted(layer: keras.Layer, shift: Tensor) -> Iterator[list[Tensor]]:
    """Add a tensor to a layer's output, so that the gradient with respect to it is known; yields these outputs."""
    outputs: list[Tensor] = []
    original = layer.call

    def call(*inputs: Tensor, **options: object) -> Tensor:
        output = original(*inputs, **options)
        outputs.append(output + ops.cast(shift, output.dtype))
        return outputs[-1]

    layer.call = call
    try:
        yield outputs
    finally:
        layer.call = original
