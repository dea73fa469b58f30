"""Batch normalization in one operation each way: Keras's takes a dozen, each of which reads the whole feature map."""

from typing import Any

import keras
import tensorflow as tf

from worker.model.network.build import get_backbone


class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """As Keras's, to rounding, for feature maps (N, h, w, C); whatever else it is asked for, Keras's does."""

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        """Inputs and outputs have the layer's compute type; statistics are float32."""
        learns = training and self.trainable
        if not learns or mask is not None or self.renorm or self.synchronized or not self._fits(inputs):
            return super().call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        fused = tf.raw_ops.FusedBatchNormV3(
            x=tf.convert_to_tensor(inputs),
            scale=tf.convert_to_tensor(self.gamma) if self.scale else tf.ones(channels),
            offset=tf.convert_to_tensor(self.beta) if self.center else tf.zeros(channels),
            mean=tf.zeros(0),
            variance=tf.zeros(0),
            epsilon=self.epsilon,
            is_training=True,
        )
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)
        # The operation divides by one less than the count, Keras by the count.
        variance = fused.batch_variance * ((count - 1) / count)
        for moving, batch in ((self.moving_mean, fused.batch_mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return fused.y

    def _fits(self, inputs: Any) -> bool:
        return len(inputs.shape) == 4 and self.axis in (-1, 3) and self.variable_dtype == "float32"


def fuse_batch_norm(network: keras.Sequential) -> None:
    """Let a network's batch normalization be fused; names, weights and all other layers stay.

    Not by Keras's clone: ConvNeXt's layers come out of it without their weights.
    """
    for layer in get_backbone(network).layers:
        if type(layer) is keras.layers.BatchNormalization:
            layer.__class__ = FusedBatchNormalization
