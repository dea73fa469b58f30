"""Grad-CAM (Selvaraju et al. 2017, eq. 1-2, arXiv 1610.02391) in closed form, and from gradients at any layer.

The head is linear in the mean of the last feature map A (h, w, C): logit k = sum_c W[c, k] mean(A_c) + b_k. Its
gradient with respect to every pixel of A_c is therefore W[c, k] / (h w), and no backward pass is needed there.

Logits are explained, not probabilities: a saturated sigmoid has a gradient of zero.
"""

import keras
import tensorflow as tf

from worker.core.errors import ModelError
from worker.model.architecture import HEAD
from worker.model.network.build import get_backbone


def compute_class_maps(features: tf.Tensor, head_kernel: tf.Tensor) -> tf.Tensor:
    """Return signed maps float32 (N, 5, h, w) of all outputs; the mean of each is its logit minus the head's bias.

    features: float32 (N, h, w, C), the last feature map. head_kernel: (C, 5).
    """
    return tf.einsum("nhwc,ck->nkhw", features, head_kernel)


def compute_logits(last_features: tf.Tensor, network: keras.Sequential) -> tf.Tensor:
    """Return the inputs of the head's sigmoids, float32 (N, 5), from the last feature map (N, h, w, C)."""
    head = network.get_layer(HEAD)
    return tf.linalg.matmul(tf.reduce_mean(last_features, axis=(1, 2)), head.kernel.value) + head.bias.value


def find_explained_outputs(
    probabilities: tf.Tensor, thresholds: tuple[float, ...], explained_outputs: tuple[int, int]
) -> tf.Tensor:
    """Return the output to explain for each image, int32 (N,): the highest one above its threshold, clipped.

    probabilities: float32 (N, 5). explained_outputs: the lowest and the highest output that may be explained.
    """
    outputs = tf.range(len(thresholds), dtype=tf.int32)
    highest = tf.reduce_max(tf.where(probabilities > tf.constant(thresholds, tf.float32), outputs, 0), axis=1)
    return tf.clip_by_value(highest, *explained_outputs)


def explain_from_gradients(features: tf.Tensor, gradients: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return saliency (N, h, w) and evidence (N,) from a feature map and the gradients of each image's own logit there.

    features, gradients: float32 (N, h, w, C). The saliency's maximum is 1, or it is zero everywhere. The evidence is in
    logits; at the last feature map it is that of the class map.
    """
    # The logit is a mean over the places: the sum of their gradients, not the mean, is the weight of a channel.
    positive = tf.nn.relu(tf.einsum("nhwc,nc->nhw", features, tf.reduce_sum(gradients, axis=(1, 2))))
    most = tf.reduce_max(positive, axis=(1, 2))
    return tf.math.divide_no_nan(positive, most[:, None, None]), most


def split_backbone(network: keras.Sequential, layer: str) -> keras.Model:
    """Return the network's backbone with two outputs: the feature map of the named layer, and the last feature map.

    Raises ModelError if the backbone has no such layer, or the layer's output is not a feature map.
    """
    backbone = get_backbone(network)
    try:
        feature_map = backbone.get_layer(layer).output
    except ValueError as error:
        raise ModelError(f"the network has no layer {layer!r}") from error
    if len(feature_map.shape) != 4:
        raise ModelError(f"layer {layer!r} has the output {feature_map.shape}; a feature map (N, h, w, C) is needed")
    return keras.Model(backbone.input, [feature_map, backbone.output])
