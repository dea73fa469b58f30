"""Augmented images keep their round field, and the same seed gives the same result."""

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from worker.imaging.recipe import Recipe
from worker.training import tensorflow_augment as module
from worker.training.plan import DEFAULT_RECIPE
from worker.training.tensorflow_augment import augment

SIDE = 65
RECIPE = DEFAULT_RECIPE.model_copy(update={"input_size_px": SIDE})
LIMITS = (
    "MAX_SCALE",
    "MAX_ASPECT",
    "MAX_SHIFT",
    "MAX_CONTRAST",
    "MAX_TILT",
    "MAX_COLOUR",
    "MAX_TINT",
    "REFLEX_PROBABILITY",
)


def run(images: NDArray[np.uint8], seed: int = 0, recipe: Recipe = RECIPE) -> NDArray[np.uint8]:
    return np.asarray(augment(tf.constant(images), tf.constant([0, seed], tf.int64), recipe))


def dots(count: int, x: int, y: int) -> NDArray[np.uint8]:
    """Grey fields with a white dot of 3 x 3 pixels."""
    images = np.full((count, SIDE, SIDE, 3), 128, np.uint8)
    images[:, y - 1 : y + 2, x - 1 : x + 2] = 255
    return images


def centroids(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Centroid of each dot, (N, 2) as x, y relative to the centre of the field."""
    weights = np.abs(images[..., 1].astype(float) - 128)
    weights /= weights.sum(axis=(1, 2), keepdims=True)
    axis = np.arange(SIDE) - SIDE // 2
    return np.column_stack([(weights * axis[None, None, :]).sum((1, 2)), (weights * axis[None, :, None]).sum((1, 2))])


@pytest.fixture
def geometry_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in LIMITS:
        monkeypatch.setattr(module, limit, 0.0)
    monkeypatch.setattr(module, "BLUR_RANGE", (0.0, 0.0))


@pytest.mark.usefixtures("geometry_only")
def test_rotation_is_about_the_centre_and_by_any_angle() -> None:
    found = centroids(run(dots(64, 32 + 20, 32)))
    assert np.hypot(*found.T) == pytest.approx(20, abs=0.5)
    quarters = np.floor((np.arctan2(found[:, 1], found[:, 0]) % (2 * np.pi)) / (np.pi / 2)).astype(int)
    assert np.bincount(quarters, minlength=4).min() >= 8


@pytest.mark.usefixtures("geometry_only")
def test_half_of_the_images_are_mirrored() -> None:
    # Two dots a quarter turn apart: a reflection reverses their order around the centre.
    first, second = (centroids(run(dots(64, *at), 1)) for at in ((52, 32), (32, 52)))
    turn = np.sign(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])
    assert 16 <= (turn > 0).sum() <= 48


@pytest.mark.usefixtures("geometry_only")
def test_scale_changes_the_distance_within_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SCALE", 0.2)
    radii = np.hypot(*centroids(run(dots(64, 32 + 20, 32))).T)
    assert 20 * np.exp(-0.2) - 0.5 < radii.min() < 18
    assert 22 < radii.max() < 20 * np.exp(0.2) + 0.5


@pytest.mark.usefixtures("geometry_only")
def test_reflexes_are_bright_bands_in_half_of_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REFLEX_PROBABILITY", 0.5)
    flat = np.full((64, SIDE, SIDE, 3), 128, np.uint8)
    changes = run(flat).astype(int) - 128
    middle = changes[:, SIDE // 2 - 20 : SIDE // 2 + 21, SIDE // 2 - 20 : SIDE // 2 + 21]
    drawn = np.abs(middle).max(axis=(1, 2, 3)) > 0
    assert 16 <= drawn.sum() <= 48
    # Bright bands without a change of the mean; red is the brightest channel.
    brightest = middle[drawn].max(axis=(1, 2))
    assert brightest.max() > 40
    assert np.abs(middle[drawn].mean(axis=(1, 2))).max() < 25
    assert np.abs(middle[drawn].mean()) < 2
    assert (brightest[:, 0] >= brightest[:, 2] - 1).mean() > 0.7


@pytest.mark.usefixtures("geometry_only")
def test_illumination_is_a_contrast_that_varies_smoothly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TILT", 0.5)
    flat = np.full((8, SIDE, SIDE, 3), 168, np.uint8)
    down = run(flat)[:, SIDE // 2 - 28 : SIDE // 2 + 29, SIDE // 2, 0].astype(float)
    assert down[:, 28].tolist() == [168.0] * 8
    # 28 of 32 pixels from the centre the tilt is at most 0.4375; rounding to grey levels adds up to 0.02.
    ends = np.log((down[:, [0, -1]] - 128) / 40)
    assert np.abs(ends).max() < 0.4375 + 0.02
    assert np.ptp(ends, axis=1).max() > 0.3
    assert np.abs(np.diff(down, axis=1)).max() <= 2


def test_pixels_outside_the_circle_have_the_outside_value() -> None:
    seen = run(np.full((16, SIDE, SIDE, 3), 200, np.uint8))
    assert (seen[:, 0, 0] == 128).all()
    assert (seen[:, 32, 32] != 128).any()


def test_recipe_without_a_circle_keeps_the_corners() -> None:
    plain = Recipe(input_size_px=SIDE, input_range=(0.0, 1.0), crop="none", enhancement="none", outside=0)
    assert (run(np.full((16, SIDE, SIDE, 3), 200, np.uint8), recipe=plain)[:, 1, 1] > 0).any()


def test_result_is_a_function_of_the_seed() -> None:
    images = np.random.default_rng(0).integers(0, 255, (4, SIDE, SIDE, 3), np.uint8)
    assert np.array_equal(run(images, 5), run(images, 5))
    assert not np.array_equal(run(images, 5), run(images, 6))
