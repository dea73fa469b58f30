"""The notebook's steps for one photograph: decode and crop at full size, resize, grade, explain, draw."""

import cv2
import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tests.benchmarks.model import MODEL
from worker.model.architecture import DENSENET121
from worker.model.bundle.bundle import load_bundle
from worker.model.network.build import load_network

LAST_CONVOLUTION = "conv5_block16_2_conv"
SIZE_PX = 224
OVERLAY_PX = 512
FOREGROUND_THRESHOLD = 10

Picture = NDArray[np.uint8]


def load_networks() -> tuple[keras.Model, keras.Model]:
    """Load the network, and a copy with the last convolution as an additional first output."""
    network = load_network(load_bundle(MODEL))
    backbone = network.get_layer(DENSENET121)
    outputs = backbone.output
    for layer in network.layers[1:]:
        outputs = layer(outputs)
    explained = keras.Model(backbone.input, [backbone.get_layer(LAST_CONVOLUTION).output, outputs])
    return network, explained


def prepare(data: bytes) -> tuple[NDArray[np.float32], Picture]:
    """Return the model's input (224, 224, 3) and the cropped photograph at the overlay's size, both RGB."""
    whole = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    foreground = cv2.cvtColor(whole, cv2.COLOR_RGB2GRAY) > FOREGROUND_THRESHOLD
    cropped = np.dstack([whole[:, :, channel][np.ix_(foreground.any(1), foreground.any(0))] for channel in range(3)])
    small = cv2.resize(cropped, (SIZE_PX, SIZE_PX))
    enhanced = cv2.addWeighted(small, 4, cv2.GaussianBlur(small, (0, 0), SIZE_PX / 30), -4, 128)
    circle = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    cv2.circle(circle, (SIZE_PX // 2, SIZE_PX // 2), SIZE_PX // 2, 1, -1)
    masked = np.where(circle[..., None] > 0, enhanced, 128)
    return ((masked.astype(np.float32) - 128) / 64), cv2.resize(cropped, (OVERLAY_PX, OVERLAY_PX))


def grade_of(probabilities: NDArray[np.float32]) -> int:
    """Return the number of outputs above 0.5, minus one."""
    return max(int(np.sum(probabilities > 0.5)) - 1, 0)


def explain_one(explained: keras.Model, image: NDArray[np.float32], grade: int) -> NDArray[np.float32]:
    """Compute the saliency of one image with a gradient tape, (h, w) in [0, 1]."""
    with tf.GradientTape() as tape:
        feature_map, outputs = explained(image[None])
        target = outputs[:, grade]
    gradients = tape.gradient(target, feature_map)
    weights = tf.reduce_mean(gradients, axis=(0, 1, 2))
    saliency = tf.maximum(tf.reduce_sum(feature_map[0] * weights, axis=-1), 0)
    return tf.math.divide_no_nan(saliency, tf.reduce_max(saliency)).numpy()


def compile_batch(explained: keras.Model) -> tf.types.experimental.PolymorphicFunction:
    """Compile a function from a batch to probabilities and saliency, with one gradient tape."""

    @tf.function(input_signature=[tf.TensorSpec((None, SIZE_PX, SIZE_PX, 3), tf.float32)])
    def grade_and_explain(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            feature_map, outputs = explained(images, training=False)
            passed = tf.maximum(tf.reduce_sum(tf.cast(outputs > 0.5, tf.int32), axis=1) - 1, 0)
            target = tf.gather(outputs, passed, axis=1, batch_dims=1)
        weights = tf.reduce_mean(tape.gradient(target, feature_map), axis=(1, 2))
        saliency = tf.nn.relu(tf.einsum("nhwc,nc->nhw", feature_map, weights))
        return outputs, tf.math.divide_no_nan(saliency, tf.reduce_max(saliency, axis=(1, 2), keepdims=True))

    return grade_and_explain


def draw(picture: Picture, saliency: NDArray[np.float32]) -> bytes:
    """Blend the saliency map with the photograph and encode it as PNG."""
    levels = np.uint8(255 * cv2.resize(saliency, (OVERLAY_PX, OVERLAY_PX)))
    coloured = cv2.applyColorMap(levels, cv2.COLORMAP_SPRING)
    blended = cv2.addWeighted(picture, 0.5, coloured, 0.5, 0)
    return cv2.imencode(".png", cv2.cvtColor(blended, cv2.COLOR_RGB2BGR))[1].tobytes()
