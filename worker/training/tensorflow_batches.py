"""Stream the augmented batches of an epoch with TensorFlow; the next batches are prepared while one is trained on."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from worker.model.ordinal import OUTPUTS
from worker.training.plan import Plan
from worker.training.tensorflow_amplitude_mixing import mix_amplitudes
from worker.training.tensorflow_augment import augment

PREFETCH_BATCHES = 2

Batch = tuple[tf.Tensor, tf.Tensor]
"""Images uint8 (N, S, S, 3) RGB and targets float32 (N, 5)."""


def augmented_batches(
    enhanced: NDArray[np.uint8], targets: NDArray[np.float32], order: NDArray[np.int64], plan: Plan, *, first_step: int
) -> Iterator[Batch]:
    """Yield one augmented batch for each row of `order`.

    enhanced: uint8 (N, S, S, 3). targets: float32 (N, 5). order: int (steps, batch_size), indices into both.
    first_step: number of the first batch within the fit. The augmentation of a batch depends on its step and plan.seed
    alone, so a resumed fit sees the same batches.
    """
    side = plan.recipe.input_size_px

    def raw() -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]]:
        for step, indices in enumerate(order, start=first_step):
            yield enhanced[indices], targets[indices], np.array([plan.seed, step], np.int64)

    signature = (
        tf.TensorSpec((None, side, side, 3), tf.uint8),
        tf.TensorSpec((None, OUTPUTS), tf.float32),
        tf.TensorSpec((2,), tf.int64),
    )
    batches = tf.data.Dataset.from_generator(raw, output_signature=signature)
    batches = batches.map(
        lambda images, wanted, seed: (_augment(images, seed, plan), wanted),
        num_parallel_calls=1,
        deterministic=True,
    )
    yield from batches.prefetch(PREFETCH_BATCHES)


def _augment(images: tf.Tensor, seed: tf.Tensor, plan: Plan) -> tf.Tensor:
    if plan.amplitude_mixing > 0:
        images = mix_amplitudes(images, seed, plan.recipe, plan.amplitude_mixing)
    return augment(images, seed, plan.recipe)
