"""Grad-CAM (Selvaraju et al. 2017, eq. 1-2, arXiv 1610.02391): in closed form, and by gradient tape at any layer.

The head is linear in the mean of the last feature map A (h, w, C): logit k = sum_c W[c, k] mean(A_c) + b_k. Its
gradient with respect to every pixel of A_c is therefore W[c, k] / (h w), and no backward pass is needed there.

Logits are explained, not probabilities: a saturated sigmoid has a gradient of zero.
"""

import keras
import tensorflow as tf

from worker.core.errors import ModelError
from worker.model.architecture import HEAD
from worker.model.network.build import get_backbone


def find_explained_outputs(
    probabilities: tf.Tensor, thresholds: tuple[float, ...], within: tuple[int, int]
) -> tf.Tensor:
    """The output to explain for each image, int32 (N,): the highest one above its threshold, brought within two.

    probabilities: float32 (N, 5). within: the lowest and the highest output that may be explained.
    """
    outputs = tf.range(len(thresholds), dtype=tf.int32)
    highest = tf.reduce_max(tf.where(probabilities > tf.constant(thresholds, tf.float32), outputs, 0), axis=1)
    return tf.clip_by_value(highest, *within)


def explain_closed_form(features: tf.Tensor, head_kernel: tf.Tensor, explained: tf.Tensor) -> tf.Tensor:
    """Saliency float32 (N, h, w) of each image for its own output, from the last feature map.

    features: float32 (N, h, w, C). head_kernel: (C, 5). explained: int32 (N,).
    """
    pixels = tf.cast(tf.shape(features)[1] * tf.shape(features)[2], tf.float32)
    channel_weights = tf.gather(tf.transpose(head_kernel), explained) / pixels
    return _rectify(features, channel_weights)


def class_maps_closed_form(features: tf.Tensor, head_kernel: tf.Tensor) -> tf.Tensor:
    """Signed maps float32 (N, 5, h, w) of all outputs: the mean of each is its logit less the bias.

    features: float32 (N, h, w, C), the last feature map. head_kernel: (C, 5).
    """
    return tf.einsum("nhwc,ck->nkhw", features, head_kernel)


def explain_by_tape(features: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
    """Saliency float32 (N, h, w) from any feature map and the gradients of each image's own logit there.

    features, gradients: float32 (N, h, w, C).
    """
    return _rectify(features, tf.reduce_mean(gradients, axis=(1, 2)))


def split_backbone(network: keras.Sequential, layer: str) -> keras.Model:
    """The network's backbone with two outputs: the feature map of a named layer inside it, and its own last one.

    Raises ModelError when the backbone has no such layer, or its output is no feature map.
    """
    backbone = get_backbone(network)
    try:
        feature_map = backbone.get_layer(layer).output
    except ValueError as error:
        raise ModelError(f"the network has no layer {layer!r}") from error
    if len(feature_map.shape) != 4:
        raise ModelError(f"layer {layer!r} gives {feature_map.shape}, a feature map (N, h, w, C) is needed")
    return keras.Model(backbone.input, [feature_map, backbone.output])


def compute_logits(last_features: tf.Tensor, network: keras.Sequential) -> tf.Tensor:
    """What enters the head's sigmoids, float32 (N, 5), from the last feature map (N, h, w, C)."""
    head = network.get_layer(HEAD)
    return tf.linalg.matmul(tf.reduce_mean(last_features, axis=(1, 2)), head.kernel.value) + head.bias.value


def _rectify(features: tf.Tensor, channel_weights: tf.Tensor) -> tf.Tensor:
    """Weigh the channels (N, C) of each map, keep what is positive, divide by its maximum; zero where nothing is."""
    positive = tf.nn.relu(tf.einsum("nhwc,nc->nhw", features, channel_weights))
    return tf.math.divide_no_nan(positive, tf.reduce_max(positive, axis=(1, 2), keepdims=True))
