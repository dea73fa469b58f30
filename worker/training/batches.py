"""Keep the device fed: the batches of an epoch, augmented while the one before is learnt from."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from worker.training.augment import augment
from worker.training.plan import Plan

PREFETCH_BATCHES = 2

Batch = tuple[tf.Tensor, tf.Tensor]
"""Pictures uint8 (N, S, S, 3), grades int64 (N,)."""


def augmented_batches(
    enhanced: NDArray[np.uint8], grades: NDArray[np.int64], order: NDArray[np.int64], plan: Plan, *, first_step: int
) -> Iterator[Batch]:
    """The batches of `order`, int (steps, batch) into both arrays; the first is the fit's `first_step`.

    How a batch is augmented follows from its step and the plan's seed, whenever the fit was taken up again.
    """
    side = plan.recipe.input_size_px

    def raw() -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]]:
        for step, drawn in enumerate(order, start=first_step):
            yield enhanced[drawn], grades[drawn], np.array([plan.seed, step], np.int64)

    signature = (
        tf.TensorSpec((None, side, side, 3), tf.uint8),
        tf.TensorSpec((None,), tf.int64),
        tf.TensorSpec((2,), tf.int64),
    )
    batches = tf.data.Dataset.from_generator(raw, output_signature=signature)
    batches = batches.map(
        lambda images, of_grade, seed: (augment(images, seed, plan.recipe), of_grade),
        num_parallel_calls=1,
        deterministic=True,
    )
    yield from batches.prefetch(PREFETCH_BATCHES)
