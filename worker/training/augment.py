"""Show an enhanced picture as another camera, hand or eye might have given it; the grade stays.

A retina has no upright: any rotation and both mirror images are retinas. Background subtraction takes a local mean away
and leaves contrast, so a change of illumination is a change of contrast that varies smoothly over the field.
"""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from worker.imaging.recipe import Recipe

MAX_SCALE = 0.15
"""Of the natural logarithm of the size."""
MAX_ASPECT = 0.10
"""Likewise of height over width: a field that is cut off at top and bottom is squashed by up to a fifth."""
MAX_SHIFT = 0.04
"""Of the side."""
MAX_CONTRAST = 0.35
MAX_TILT = 0.25
"""Of the logarithm of the contrast from the middle to the edge, across and down."""
MAX_COLOUR = 0.12
"""Of the logarithm of each channel's contrast."""
MAX_TINT = 8.0
"""Grey levels added to each channel."""
BLUR = (-0.6, 0.5)
"""How much of the way to the blurred picture; less than nothing sharpens."""

REFLEX_SHARE = 0.5
"""Of the pictures that get bands like the sheen of nerve fibres in young eyes, or choroidal vessels in pale ones."""
MAX_REFLEX = 110.0
"""Grey levels at their brightest."""
_BENDS = (5, 14)
"""Of a band across the side, at most."""


def augment(images: tf.Tensor, seed: tf.Tensor, recipe: Recipe) -> tf.Tensor:
    """Each picture changed at random in all these ways, uint8 (N, S, S, 3) to the same.

    seed: int (2,); the same seed gives the same pictures. What a turn lets in from outside is the recipe's `outside`,
    and the recipe's circle is cut again.
    """
    size_px, count = recipe.input_size_px, tf.shape(images)[0]
    seeds = tf.unstack(tf.random.split(seed, 5))
    turned = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=_transforms(count, seeds[0], size_px),
        output_shape=[size_px, size_px],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=float(recipe.outside),
    )
    seen = tf.cast(turned, tf.float32)
    seen = _blur(seen, tf.random.stateless_uniform((count, 1, 1, 1), seeds[1], *BLUR))
    middle = recipe.offset if recipe.enhancement == "graham" else 0.0
    tint = tf.random.stateless_uniform((count, 1, 1, 3), seeds[2], -MAX_TINT, MAX_TINT)
    seen = (seen - middle) * _contrast(count, seeds[3], size_px) + middle + tint + _reflexes(count, seeds[4], size_px)
    seen = tf.cast(tf.round(tf.clip_by_value(seen, 0, 255)), tf.uint8)
    if not recipe.cut_to_circle:
        return seen
    return tf.where(tf.constant(_circle(recipe))[None, :, :, None], seen, tf.constant(recipe.outside, tf.uint8))


def _transforms(count: tf.Tensor, seed: tf.Tensor, size_px: int) -> tf.Tensor:
    """From each output pixel to where it comes from, about the middle: float32 (N, 8), the last two zero."""
    numbers = tf.random.stateless_uniform((6, count), seed, -1, 1)
    angle, mirror, scale, aspect, across, down = tf.unstack(numbers)
    cosine, sine = tf.cos(np.pi * angle), tf.sin(np.pi * angle)
    wide = tf.exp(MAX_SCALE * scale + MAX_ASPECT * aspect / 2) * tf.where(mirror < 0, -1.0, 1.0)
    tall = tf.exp(MAX_SCALE * scale - MAX_ASPECT * aspect / 2)
    # Stretch along the picture's own axes, then turn: the inverse is applied to the output's pixels.
    a, b, c, d = cosine / wide, sine / wide, -sine / tall, cosine / tall
    middle = (size_px - 1) / 2
    x, y = (middle + MAX_SHIFT * size_px * shift for shift in (across, down))
    zero = tf.zeros_like(a)
    return tf.stack([a, b, middle - a * x - b * y, c, d, middle - c * x - d * y, zero, zero], axis=1)


def _reflexes(count: tf.Tensor, seed: tf.Tensor, size_px: int) -> tf.Tensor:
    """Grey levels to add, float32 (N, S, S, 3): bright bands where smooth noise crosses zero, in soft patches.

    Their own local mean is taken from them, as background subtraction does.
    """
    seeds = tf.unstack(tf.random.split(seed, 5))

    def noise(key: tf.Tensor, cells: int) -> tf.Tensor:
        coarse = tf.random.stateless_normal((count, cells, cells, 1), key)
        return tf.image.resize(coarse, (size_px, size_px), "bicubic")

    few, many = _BENDS
    fine = tf.random.stateless_uniform((count, 1, 1, 1), seeds[0]) < 0.5
    bends = tf.where(fine, noise(seeds[1], many), noise(seeds[1], few))
    numbers = tf.random.stateless_uniform((7, count, 1, 1, 1), seeds[2])
    there, strength, width, spread, red, green, blue = tf.unstack(numbers)
    bands = tf.exp(-tf.square(bends / (0.1 + 0.6 * width)))
    patches = tf.clip_by_value(noise(seeds[3], few) + 1.5 * spread - 0.5, 0, 1)
    streaks = 0.5 + 0.5 * tf.clip_by_value(noise(seeds[4], size_px // 6), -1, 1)
    reflex = bands * patches * streaks
    side = max(3, int(size_px / 15) | 1)
    reflex -= tf.nn.avg_pool2d(reflex, side, 1, "SAME")
    # White as a nerve fibre's sheen, or the colours of the choroid.
    colour = tf.concat([1 - 0.3 * red, 1 - 0.5 * green, 1 - 0.8 * blue], axis=-1)
    return tf.where(there < REFLEX_SHARE, MAX_REFLEX * strength * reflex * colour, 0.0)


def _blur(images: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Mix each picture with itself blurred by two means of 3 x 3, a standard deviation of 1.15 pixels."""
    blurred = images
    for _ in range(2):
        blurred = tf.nn.avg_pool2d(blurred, 3, 1, "SAME")
    return images + share * (blurred - images)


def _contrast(count: tf.Tensor, seed: tf.Tensor, size_px: int) -> tf.Tensor:
    """Factor of each pixel's distance from the middle grey, float32 (N, S, S, 3)."""
    whole, across, down, *colours = tf.unstack(tf.random.stateless_uniform((6, count), seed, -1, 1))
    places = tf.linspace(-1.0, 1.0, size_px)
    tilt = across[:, None, None] * places[None, None, :] + down[:, None, None] * places[None, :, None]
    smooth = tf.exp(MAX_CONTRAST * whole[:, None, None] + MAX_TILT * tilt)
    return smooth[..., None] * tf.exp(MAX_COLOUR * tf.stack(colours, axis=1))[:, None, None, :]


def _circle(recipe: Recipe) -> NDArray[np.bool_]:
    places = np.arange(recipe.input_size_px) - recipe.input_size_px // 2
    return np.asarray(np.hypot(places[:, None], places[None, :]) <= recipe.circle_radius_px)
