"""The notebook's loop: `model.predict`, then a gradient tape for each image at the last convolution.

`predict` is called once per batch, which is faster than once per image.
"""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tests.benchmarks.engine_process import EngineOutput
from tests.benchmarks.peers.inputs import as_network_input
from worker.model.architecture import DENSENET121
from worker.model.bundle.bundle import Bundle
from worker.model.network.build import load_network

LAST_CONVOLUTION = "conv5_block16_2_conv"


def load(bundle: Bundle, pictures: NDArray[np.uint8]) -> Callable[[], EngineOutput]:
    """Load probabilities and saliency at the last convolution, which differs from that at the last layer."""
    network = load_network(bundle)
    grad_model = _with_feature_map(network)
    images = as_network_input(bundle, pictures)

    def run() -> EngineOutput:
        probabilities = network.predict(images, verbose=0)
        grades = [max(int(np.sum(row > 0.5)) - 1, 0) for row in probabilities]
        maps = [_explain(grad_model, image[None], grade) for image, grade in zip(images, grades, strict=True)]
        return probabilities, np.stack(maps)

    return run


def _with_feature_map(network: keras.Sequential) -> keras.Model:
    backbone = network.get_layer(DENSENET121)
    outputs = backbone.output
    for layer in network.layers[1:]:
        outputs = layer(outputs)
    return keras.Model(backbone.input, [backbone.get_layer(LAST_CONVOLUTION).output, outputs])


def _explain(grad_model: keras.Model, image: NDArray[np.float32], grade: int) -> NDArray[np.float32]:
    with tf.GradientTape() as tape:
        feature_map, outputs = grad_model(image)
        target = outputs[:, grade]
    gradients = tape.gradient(target, feature_map)
    channel_weights = tf.reduce_mean(gradients, axis=(0, 1, 2))
    saliency = tf.maximum(tf.reduce_sum(feature_map[0] * channel_weights, axis=-1), 0)
    return tf.math.divide_no_nan(saliency, tf.reduce_max(saliency)).numpy()
