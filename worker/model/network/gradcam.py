"""Grad-CAM (Selvaraju et al. 2017, eq. 1-2, arXiv 1610.02391) in closed form, and from gradients at any layer.

The head is linear in the mean of the last feature map A (h, w, C): logit k = sum_c W[c, k] mean(A_c) + b_k. Its
gradient with respect to every pixel of A_c is therefore W[c, k] / (h w), and no backward pass is needed there.

Logits are explained, not probabilities: a saturated sigmoid has a gradient of zero.
"""

import keras
from keras import ops

from worker.core.errors import ModelError
from worker.model.architecture import HEAD
from worker.model.network.build import get_backbone
from worker.model.network.tensors import Tensor


def compute_class_maps(features: Tensor, head_kernel: Tensor) -> Tensor:
    """Return signed maps float32 (N, 5, h, w) of all outputs; the mean of each is its logit minus the head's bias.

    features: float32 (N, h, w, C), the last feature map. head_kernel: (C, 5).
    """
    return ops.einsum("nhwc,ck->nkhw", features, head_kernel)


def compute_logits(last_features: Tensor, network: keras.Sequential) -> Tensor:
    """Return the inputs of the head's sigmoids, float32 (N, 5), from the last feature map float32 (N, h, w, C)."""
    head = network.get_layer(HEAD)
    return ops.matmul(ops.mean(last_features, axis=(1, 2)), head.kernel.value) + head.bias.value


def find_explained_outputs(
    probabilities: Tensor, thresholds: tuple[float, ...], explained_outputs: tuple[int, int]
) -> Tensor:
    """Return the output to explain for each image, int32 (N,): the highest one above its threshold, clipped.

    probabilities: float32 (N, 5). explained_outputs: the lowest and the highest output that may be explained.
    """
    outputs = ops.arange(len(thresholds), dtype="int32")
    highest = ops.max(ops.where(probabilities > ops.convert_to_tensor(thresholds, "float32"), outputs, 0), axis=1)
    return ops.clip(highest, *explained_outputs)


def explain_from_gradients(features: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Return saliency (N, h, w) and evidence (N,) from a feature map and the gradients of each image's own logit there.

    features, gradients: float32 (N, h, w, C). The saliency's maximum is 1, or it is zero everywhere. The evidence is in
    logits; at the last feature map it is that of the class map.
    """
    # The logit is a mean over the places: the sum of their gradients, not the mean, is the weight of a channel.
    positive = ops.relu(ops.einsum("nhwc,nc->nhw", features, ops.sum(gradients, axis=(1, 2))))
    most = ops.max(positive, axis=(1, 2))
    return ops.divide_no_nan(positive, most[:, None, None]), most


def find_feature_layer(network: keras.Sequential, name: str) -> keras.Layer:
    """Return the named layer of the backbone.

    Raises ModelError if the backbone has no such layer, or the layer's output is not a feature map.
    """
    try:
        layer = get_backbone(network).get_layer(name)
    except ValueError as error:
        raise ModelError(f"the network has no layer {name!r}") from error
    if len(layer.output.shape) != 4:
        raise ModelError(f"layer {name!r} has the output {layer.output.shape}; a feature map (N, h, w, C) is needed")
    return layer
