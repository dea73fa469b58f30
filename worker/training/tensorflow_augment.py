"""Augment enhanced images at random with TensorFlow."""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

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


def augment(images: tf.Tensor, seed: tf.Tensor, recipe: Recipe) -> tf.Tensor:
    """Apply every augmentation to each image, with random strengths.

    images: uint8 (N, S, S, 3) RGB, S = recipe.input_size_px. seed: int (2,); the result is a function of images and
    seed. Returns uint8 (N, S, S, 3). Areas that a transform uncovers, and everything outside the recipe's circle, have
    the value recipe.outside.
    """
    size_px, count = recipe.input_size_px, tf.shape(images)[0]
    seeds = tf.unstack(tf.random.split(seed, 5))
    transformed = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=_random_transforms(count, seeds[0], size_px),
        output_shape=[size_px, size_px],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=float(recipe.outside),
    )
    result = tf.cast(transformed, tf.float32)
    result = _blur(result, tf.random.stateless_uniform((count, 1, 1, 1), seeds[1], *BLUR_RANGE))
    middle_grey = recipe.offset if recipe.enhancement == "graham" else 0.0
    tint = tf.random.stateless_uniform((count, 1, 1, 3), seeds[2], -MAX_TINT, MAX_TINT)
    result = (
        (result - middle_grey) * _contrast_factors(count, seeds[3], size_px)
        + middle_grey
        + tint
        + _random_reflexes(count, seeds[4], size_px)
    )
    result = tf.cast(tf.round(tf.clip_by_value(result, 0, 255)), tf.uint8)
    if not recipe.cut_to_circle:
        return result
    return tf.where(tf.constant(_circle_mask(recipe))[None, :, :, None], result, tf.constant(recipe.outside, tf.uint8))


def _random_transforms(count: tf.Tensor, seed: tf.Tensor, size_px: int) -> tf.Tensor:
    """Return projective transforms from output to input pixels, float32 (N, 8) with the last two columns 0."""
    numbers = tf.random.stateless_uniform((6, count), seed, -1, 1)
    angle, mirror, scale, aspect, across, down = tf.unstack(numbers)
    cosine, sine = tf.cos(np.pi * angle), tf.sin(np.pi * angle)
    wide = tf.exp(MAX_SCALE * scale + MAX_ASPECT * aspect / 2) * tf.where(mirror < 0, -1.0, 1.0)
    tall = tf.exp(MAX_SCALE * scale - MAX_ASPECT * aspect / 2)
    # Scale along the axes of the input, then rotate; TensorFlow applies the inverse to output pixels.
    a, b, c, d = cosine / wide, sine / wide, -sine / tall, cosine / tall
    centre = (size_px - 1) / 2
    x, y = (centre + MAX_SHIFT * size_px * shift for shift in (across, down))
    zero = tf.zeros_like(a)
    return tf.stack([a, b, centre - a * x - b * y, c, d, centre - c * x - d * y, zero, zero], axis=1)


def _random_reflexes(count: tf.Tensor, seed: tf.Tensor, size_px: int) -> tf.Tensor:
    """Return the reflexes in grey levels, float32 (N, S, S, 3): bright bands along the zero crossings of smooth noise.

    The bands appear in soft patches. Their local mean is subtracted, as background subtraction would do.
    """
    seeds = tf.unstack(tf.random.split(seed, 5))

    def noise(key: tf.Tensor, cells: int) -> tf.Tensor:
        grid = tf.random.stateless_normal((count, cells, cells, 1), key)
        return tf.image.resize(grid, (size_px, size_px), "bicubic")

    coarse_cells, fine_cells = NOISE_CELLS
    fine = tf.random.stateless_uniform((count, 1, 1, 1), seeds[0]) < 0.5
    curves = tf.where(fine, noise(seeds[1], fine_cells), noise(seeds[1], coarse_cells))
    numbers = tf.random.stateless_uniform((7, count, 1, 1, 1), seeds[2])
    presence, strength, width, spread, red, green, blue = tf.unstack(numbers)
    bands = tf.exp(-tf.square(curves / (0.1 + 0.6 * width)))
    patches = tf.clip_by_value(noise(seeds[3], coarse_cells) + 1.5 * spread - 0.5, 0, 1)
    streaks = 0.5 + 0.5 * tf.clip_by_value(noise(seeds[4], size_px // 6), -1, 1)
    reflex = bands * patches * streaks
    window = max(3, int(size_px / 15) | 1)
    reflex -= tf.nn.avg_pool2d(reflex, window, 1, "SAME")
    # From the white of nerve fibres to the red of the choroid.
    colour = tf.concat([1 - 0.3 * red, 1 - 0.5 * green, 1 - 0.8 * blue], axis=-1)
    return tf.where(presence < REFLEX_PROBABILITY, MAX_REFLEX * strength * reflex * colour, 0.0)


def _blur(images: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Blend each image with its blurred copy: two 3 x 3 box filters, a standard deviation of 1.15 pixels."""
    blurred = images
    for _ in range(2):
        blurred = tf.nn.avg_pool2d(blurred, 3, 1, "SAME")
    return images + weight * (blurred - images)


def _contrast_factors(count: tf.Tensor, seed: tf.Tensor, size_px: int) -> tf.Tensor:
    """Return the contrast factor of each pixel, float32 (N, S, S, 3)."""
    whole, across, down, *colours = tf.unstack(tf.random.stateless_uniform((6, count), seed, -1, 1))
    places = tf.linspace(-1.0, 1.0, size_px)
    tilt = across[:, None, None] * places[None, None, :] + down[:, None, None] * places[None, :, None]
    smooth = tf.exp(MAX_CONTRAST * whole[:, None, None] + MAX_TILT * tilt)
    return smooth[..., None] * tf.exp(MAX_COLOUR * tf.stack(colours, axis=1))[:, None, None, :]


def _circle_mask(recipe: Recipe) -> NDArray[np.bool_]:
    places = np.arange(recipe.input_size_px) - recipe.input_size_px // 2
    return np.asarray(np.hypot(places[:, None], places[None, :]) <= recipe.circle_radius_px)
