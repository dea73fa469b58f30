"""Augment enhanced images at random with JAX: the same changes as with TensorFlow, from other random numbers."""

import jax
import jax.numpy as jnp
import numpy as np
from keras import ops

from worker.imaging.recipe import Recipe
from worker.training.augmentation import (
    BLUR_RANGE,
    MAX_ASPECT,
    MAX_COLOUR,
    MAX_CONTRAST,
    MAX_REFLEX,
    MAX_SCALE,
    MAX_SHIFT,
    MAX_TILT,
    MAX_TINT,
    NOISE_CELLS,
    REFLEX_PROBABILITY,
)


def augment(images: jax.Array, key: jax.Array, recipe: Recipe) -> jax.Array:
    """Apply every augmentation to each image, with random strengths.

    images: uint8 (N, S, S, 3) RGB, S = recipe.input_size_px. key: of JAX; the result is a function of images and key.
    Returns uint8 (N, S, S, 3). Areas that a transform uncovers, and everything outside the recipe's circle, have the
    value recipe.outside.
    """
    size_px, count = recipe.input_size_px, len(images)
    keys = jax.random.split(key, 5)
    coordinates = _random_coordinates(count, keys[0], size_px)
    result = _sample(images.astype(jnp.float32), coordinates, float(recipe.outside))
    result = _blur(result, _uniform(keys[1], (count, 1, 1, 1), *BLUR_RANGE))
    middle_grey = recipe.offset if recipe.enhancement == "graham" else 0.0
    tint = _uniform(keys[2], (count, 1, 1, 3), -MAX_TINT, MAX_TINT)
    result = (
        (result - middle_grey) * _contrast_factors(count, keys[3], size_px)
        + middle_grey
        + tint
        + _random_reflexes(count, keys[4], size_px)
    )
    result = jnp.round(jnp.clip(result, 0, 255)).astype(jnp.uint8)
    if not recipe.cut_to_circle:
        return result
    places = np.arange(size_px) - size_px // 2
    inside = np.hypot(places[:, None], places[None, :]) <= recipe.circle_radius_px
    return jnp.where(inside[None, :, :, None], result, jnp.uint8(recipe.outside))


def _uniform(key: jax.Array, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> jax.Array:
    return jax.random.uniform(key, shape, minval=low, maxval=high)


def _random_coordinates(count: int, key: jax.Array, size_px: int) -> jax.Array:
    """Return the place in the input of each output pixel, float32 (N, 2, S, S) as y, x."""
    angle, mirror, scale, aspect, across, down = _uniform(key, (6, count, 1, 1), -1, 1)
    cosine, sine = jnp.cos(np.pi * angle), jnp.sin(np.pi * angle)
    wide = jnp.exp(MAX_SCALE * scale + MAX_ASPECT * aspect / 2) * jnp.where(mirror < 0, -1.0, 1.0)
    tall = jnp.exp(MAX_SCALE * scale - MAX_ASPECT * aspect / 2)
    centre = (size_px - 1) / 2
    places = jnp.arange(size_px, dtype=jnp.float32) - centre
    # Scale along the axes of the input, then rotate; this is the inverse, from output to input pixels.
    x = places[None, None, :] - MAX_SHIFT * size_px * across
    y = places[None, :, None] - MAX_SHIFT * size_px * down
    return jnp.stack([centre + (cosine * y - sine * x) / tall, centre + (cosine * x + sine * y) / wide], axis=1)


def _sample(images: jax.Array, coordinates: jax.Array, outside: float) -> jax.Array:
    """Return the bilinear interpolation of images (N, S, S, 3) at (N, 2, S, S), with a constant beyond the border."""

    def sample(channel: jax.Array, places: jax.Array) -> jax.Array:
        return jax.scipy.ndimage.map_coordinates(channel, list(places), order=1, mode="constant", cval=outside)

    return jax.vmap(jax.vmap(sample, in_axes=(2, None), out_axes=2))(images, coordinates)


def _random_reflexes(count: int, key: jax.Array, size_px: int) -> jax.Array:
    """Return the reflexes in grey levels, float32 (N, S, S, 3): bright bands along the zero crossings of smooth noise.

    The bands appear in soft patches. Their local mean is subtracted, as background subtraction would do.
    """
    keys = jax.random.split(key, 6)

    def noise(key: jax.Array, cells: int) -> jax.Array:
        grid = jax.random.normal(key, (count, cells, cells, 1))
        return jax.image.resize(grid, (count, size_px, size_px, 1), "cubic")

    coarse_cells, fine_cells = NOISE_CELLS
    fine = _uniform(keys[0], (count, 1, 1, 1)) < 0.5
    curves = jnp.where(fine, noise(keys[1], fine_cells), noise(keys[2], coarse_cells))
    presence, strength, width, spread, red, green, blue = _uniform(keys[3], (7, count, 1, 1, 1))
    bands = jnp.exp(-jnp.square(curves / (0.1 + 0.6 * width)))
    patches = jnp.clip(noise(keys[4], coarse_cells) + 1.5 * spread - 0.5, 0, 1)
    streaks = 0.5 + 0.5 * jnp.clip(noise(keys[5], size_px // 6), -1, 1)
    reflex = bands * patches * streaks
    window = max(3, int(size_px / 15) | 1)
    reflex -= ops.average_pool(reflex, window, 1, "same")
    # From the white of nerve fibres to the red of the choroid.
    colour = jnp.concatenate([1 - 0.3 * red, 1 - 0.5 * green, 1 - 0.8 * blue], axis=-1)
    return jnp.where(presence < REFLEX_PROBABILITY, MAX_REFLEX * strength * reflex * colour, 0.0)


def _blur(images: jax.Array, weight: jax.Array) -> jax.Array:
    """Blend each image with its blurred copy: two 3 x 3 box filters, a standard deviation of 1.15 pixels."""
    blurred = images
    for _ in range(2):
        blurred = ops.average_pool(blurred, 3, 1, "same")
    return images + weight * (blurred - images)


def _contrast_factors(count: int, key: jax.Array, size_px: int) -> jax.Array:
    """Return the contrast factor of each pixel, float32 (N, S, S, 3)."""
    whole, across, down, *colours = _uniform(key, (6, count), -1, 1)
    places = jnp.linspace(-1.0, 1.0, size_px)
    tilt = across[:, None, None] * places[None, None, :] + down[:, None, None] * places[None, :, None]
    smooth = jnp.exp(MAX_CONTRAST * whole[:, None, None] + MAX_TILT * tilt)
    return smooth[..., None] * jnp.exp(MAX_COLOUR * jnp.stack(colours, axis=1))[:, None, None, :]
