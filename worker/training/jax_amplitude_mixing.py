"""Mix the amplitude spectra of images of a batch with JAX, as with TensorFlow, from other random numbers."""

import jax
import jax.numpy as jnp

from worker.imaging.recipe import Recipe
from worker.training.augmentation import MIXED_PROBABILITY, SMALLEST_AMPLITUDE


def mix_amplitudes(images: jax.Array, key: jax.Array, recipe: Recipe, share: float) -> jax.Array:
    """Replace a random part of the amplitudes of half of the images by those of the image before in the batch.

    images: uint8 (N, S, S, 3) RGB. key: of JAX; the result is a function of images and key. share: the largest part
    that is replaced, 0 to 1. Returns uint8 (N, S, S, 3).
    """
    middle_grey = recipe.offset if recipe.enhancement == "graham" else 0.0
    spectra = jnp.fft.rfft2(images.astype(jnp.float32) - middle_grey, axes=(1, 2))
    amplitudes = jnp.abs(spectra)
    part, chosen = jax.random.uniform(key, (2, len(images), 1, 1, 1))
    part = share * part * (chosen < MIXED_PROBABILITY)
    mixed = amplitudes + part * (jnp.roll(amplitudes, 1, axis=0) - amplitudes)
    ratio = mixed / jnp.maximum(amplitudes, SMALLEST_AMPLITUDE)
    result = jnp.fft.irfft2(spectra * ratio, images.shape[1:3], axes=(1, 2)) + middle_grey
    return jnp.round(jnp.clip(result, 0, 255)).astype(jnp.uint8)
