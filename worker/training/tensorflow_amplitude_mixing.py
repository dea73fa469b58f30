"""Mix the amplitude spectra of images of a batch with TensorFlow."""

import tensorflow as tf

from worker.imaging.recipe import Recipe
from worker.training.augmentation import MIXED_PROBABILITY, SMALLEST_AMPLITUDE


def mix_amplitudes(images: tf.Tensor, seed: tf.Tensor, recipe: Recipe, share: float) -> tf.Tensor:
    """Replace a random part of the amplitudes of half of the images by those of the next image in the batch.

    images: uint8 (N, S, S, 3) RGB. seed: int (2,); the result is a function of images and seed. share: the largest part
    that is replaced, 0 to 1. Returns uint8 (N, S, S, 3).
    """
    middle_grey = recipe.offset if recipe.enhancement == "graham" else 0.0
    planes = tf.transpose(tf.cast(images, tf.float32) - middle_grey, (0, 3, 1, 2))
    spectra = tf.signal.rfft2d(planes)
    amplitudes = tf.abs(spectra)
    # Another stream of random numbers than that of `augment`, which has the same seed.
    part, chosen = tf.unstack(tf.random.stateless_uniform((2, tf.shape(images)[0], 1, 1, 1), tf.bitwise.invert(seed)))
    part = share * part * tf.cast(chosen < MIXED_PROBABILITY, tf.float32)
    mixed = amplitudes + part * (tf.roll(amplitudes, 1, axis=0) - amplitudes)
    ratio = mixed / tf.maximum(amplitudes, SMALLEST_AMPLITUDE)
    result = tf.signal.irfft2d(spectra * tf.cast(ratio, tf.complex64), planes.shape[-2:]) + middle_grey
    return tf.cast(tf.round(tf.clip_by_value(tf.transpose(result, (0, 2, 3, 1)), 0, 255)), tf.uint8)
