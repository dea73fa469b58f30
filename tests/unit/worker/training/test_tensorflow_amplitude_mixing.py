"""Mixed images keep their shapes, and take the contrast of another image at each scale."""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from worker.training.plan import DEFAULT_RECIPE
from worker.training.tensorflow_amplitude_mixing import mix_amplitudes

SIDE = 64
RECIPE = DEFAULT_RECIPE.model_copy(update={"input_size_px": SIDE})


def mix(images: NDArray[np.uint8], share: float, seed: int = 0) -> NDArray[np.uint8]:
    return np.asarray(mix_amplitudes(tf.constant(images), tf.constant([0, seed], tf.int64), RECIPE, share))


def textures(count: int) -> NDArray[np.uint8]:
    """Return the same noise around middle grey, with a contrast that rises from image to image."""
    noise = np.random.default_rng(0).normal(size=(1, SIDE, SIDE, 3))
    contrast = np.linspace(5, 30, count)[:, None, None, None]
    return np.clip(np.round(128 + contrast * noise), 0, 255).astype(np.uint8)


def contrasts(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.asarray((images.astype(float) - 128).std(axis=(1, 2, 3)))


def test_half_of_the_images_move_towards_the_contrast_of_the_next() -> None:
    images = textures(64)
    before, after = contrasts(images), contrasts(mix(images, 1.0))
    # The partner is the image before it in the batch; the first one gets the last.
    lowest, highest = np.minimum(before, np.roll(before, 1)), np.maximum(before, np.roll(before, 1))
    assert (after >= lowest - 0.3).all()
    assert (after <= highest + 0.3).all()
    changed = (mix(images, 1.0) != images).any(axis=(1, 2, 3))
    assert 16 <= changed.sum() <= 48


def test_phase_is_kept() -> None:
    images = textures(16)
    pairs = zip(images.astype(float) - 128, mix(images, 1.0).astype(float) - 128, strict=True)
    assert min(np.corrcoef(before.ravel(), after.ravel())[0, 1] for before, after in pairs) > 0.95


def test_result_is_a_function_of_the_seed_and_no_share_changes_nothing() -> None:
    images = textures(8)
    assert (mix(images, 0.7, seed=3) == mix(images, 0.7, seed=3)).all()
    assert (mix(images, 0.7, seed=3) != mix(images, 0.7, seed=4)).any()
    assert np.abs(mix(images, 0.0).astype(int) - images).max() <= 1
