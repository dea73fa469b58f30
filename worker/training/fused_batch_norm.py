"""Batch normalisation as one fused operation; Keras uses a dozen, each of which reads the whole feature map."""

from typing import Any

import keras
import tensorflow as tf

from worker.model.network.build import get_backbone


class BatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Equals the layer of Keras up to rounding; fused for feature maps (N, h, w, C), otherwise delegated to Keras.

    It has the name of Keras's class, because the names of weights are derived from it.
    """

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        """Normalise inputs of the layer's compute dtype; the statistics are float32."""
        updates = training and self.trainable
        if not updates or mask is not None or self.renorm or self.synchronized or not self._can_fuse(inputs):
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
        # The fused operation divides by count - 1, Keras by count.
        variance = fused.batch_variance * ((count - 1) / count)
        for moving, batch in ((self.moving_mean, fused.batch_mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return fused.y

    def _can_fuse(self, inputs: Any) -> bool:
        return len(inputs.shape) == 4 and self.axis in (-1, 3) and self.variable_dtype == "float32"


def fuse_batch_norm(network: keras.Sequential) -> None:
    """Replace the batch normalisation layers of a network in place; names, weights and other layers stay.

    The class is changed because keras.models.clone_model loses the weights of ConvNeXt's layers.
    """
    for layer in get_backbone(network).layers:
        if type(layer) is keras.layers.BatchNormalization:
            layer.__class__ = BatchNormalization
