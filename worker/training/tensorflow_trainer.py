"""Training steps with TensorFlow, see `Trainer`."""

from collections.abc import Iterator, Mapping

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from worker.core.machine import quota_cores
from worker.model.architecture import HEAD
from worker.model.network.build import DROPOUT_RATE, assign_weights, build_network, get_backbone, get_weights
from worker.model.ordinal import OUTPUTS
from worker.training.fused_batch_norm import fuse_batch_norm
from worker.training.optimizer import build_optimizer, freeze_before
from worker.training.plan import Plan
from worker.training.tensorflow_batches import Batch, augmented_batches

PREDICT_BATCH = 32


class TensorFlowTrainer:
    """A `Trainer` whose steps are graphs of TensorFlow."""

    def __init__(self, plan: Plan, total_steps: int, initial: Mapping[str, NDArray[np.float32]] | None) -> None:
        """initial: weights to start from, by the names of a bundle; None draws random ones."""
        limit_threads(plan.threads)
        keras.utils.set_random_seed(plan.seed)
        tf.config.experimental.enable_op_determinism()
        self._plan = plan
        self._network = build_network(plan.recipe.input_size_px, plan.architecture, plan.precision)
        if plan.trained_from is not None:
            freeze_before(self._network, plan.trained_from)
        fuse_batch_norm(self._network)
        if initial is not None:
            assign_weights(self._network, initial)
        self._ema = build_network(plan.recipe.input_size_px, plan.architecture, plan.precision)
        self._ema.set_weights(self._network.get_weights())
        self._optimizer = build_optimizer(plan, total_steps, self._network)
        self._steps = tf.Variable(0, dtype=tf.int64)
        side = plan.recipe.input_size_px
        images = tf.TensorSpec((None, side, side, 3), tf.uint8)
        self._train = tf.function(
            self._train_batch, autograph=False, input_signature=[images, tf.TensorSpec((None, OUTPUTS), tf.float32)]
        )
        self._predict = tf.function(self._predict_batch, autograph=False, input_signature=[images])

    @property
    def steps(self) -> int:
        """Number of batches trained on."""
        return int(self._steps.numpy())

    def augmented_batches(
        self, enhanced: NDArray[np.uint8], targets: NDArray[np.float32], order: NDArray[np.int64]
    ) -> Iterator[Batch]:
        """See `Trainer.augmented_batches`."""
        return augmented_batches(enhanced, targets, order, self._plan, first_step=self.steps)

    def train_step(self, images: tf.Tensor, targets: tf.Tensor) -> float:
        """See `Trainer.train_step`."""
        return float(self._train(images, targets))

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Trainer.predict`."""
        parts = [
            self._predict(tf.constant(images[start : start + PREDICT_BATCH])).numpy()
            for start in range(0, len(images), PREDICT_BATCH)
        ]
        return np.concatenate(parts or [np.empty((0, OUTPUTS), np.float32)])

    def set_ema_weights(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """See `Trainer.set_ema_weights`."""
        assign_weights(self._ema, weights)

    def ema_weights(self) -> dict[str, NDArray[np.float32]]:
        """See `Trainer.ema_weights`."""
        return get_weights(self._ema)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """See `Trainer.state`."""
        return {name: variable.numpy() for name, variable in self._variables().items()}

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """See `Trainer.restore`."""
        for name, variable in self._variables().items():
            variable.assign(state[name])

    def _variables(self) -> dict[str, tf.Variable]:
        groups = {
            "network": self._network.weights,
            "average": self._ema.weights,
            "optimizer": self._optimizer.variables,
        }
        named = {f"{group}/{index}": variable for group, some in groups.items() for index, variable in enumerate(some)}
        return {**named, "steps": self._steps}

    def _train_batch(self, images: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            pooled = _pool(self._network, _to_input(images, self._plan), training=True)
            seed = tf.stack([tf.constant(self._plan.seed, tf.int64), self._steps])
            pooled = tf.nn.experimental.stateless_dropout(pooled, DROPOUT_RATE, seed)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(targets, _logits(self._network, pooled))
            loss = tf.reduce_mean(losses)
        trained = self._network.trainable_variables
        self._optimizer.apply(tape.gradient(loss, [variable.value for variable in trained]), trained)
        self._steps.assign_add(1)
        steps = tf.cast(self._steps, tf.float32)
        # A small decay at first, so that the average forgets the initial weights quickly.
        decay = tf.minimum(self._plan.ema_decay, (1 + steps) / (10 + steps))
        for mean, variable in zip(self._ema.weights, self._network.weights, strict=True):
            # EfficientNet has an integer counter among its weights, which cannot be averaged.
            if tf.as_dtype(variable.dtype).is_floating:
                mean.assign(mean + (1 - decay) * (variable - mean))
        return loss

    def _predict_batch(self, images: tf.Tensor) -> tf.Tensor:
        pooled = _pool(self._ema, _to_input(images, self._plan), training=False)
        return tf.sigmoid(_logits(self._ema, pooled))


def limit_threads(threads: int | None) -> None:
    """Limit the threads within an operation; None keeps TensorFlow's default, or fewer under a CPU quota.

    Call it before the first operation: later calls fail.
    """
    threads = threads or quota_cores()
    if threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)


def _to_input(images: tf.Tensor, plan: Plan) -> tf.Tensor:
    low, high = plan.recipe.input_range
    return tf.cast(images, tf.float32) * ((high - low) / 255) + low


def _pool(network: keras.Sequential, images: tf.Tensor, *, training: bool) -> tf.Tensor:
    features = get_backbone(network)(images, training=training)
    return tf.reduce_mean(tf.cast(features, tf.float32), axis=(1, 2))


def _logits(network: keras.Sequential, pooled: tf.Tensor) -> tf.Tensor:
    # The head runs in float32: bfloat16 resolves probabilities only to 0.004.
    head = network.get_layer(HEAD)
    return tf.linalg.matmul(pooled, head.kernel.value) + head.bias.value
