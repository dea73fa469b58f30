"""The enhanced picture is, byte for byte, the one that the model was trained on."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from worker.items import Ellipse, Field, Photograph
from worker.model.recipe import Recipe
from worker.steps.enhance import enhance

ROOT = Path(__file__).parents[4]
RECIPE = Recipe(
    input_size_px=224, input_range=(-2.0, 127 / 64), crop="lit_box", enhancement="graham", cut_to_circle=True
)
PLAIN = Recipe(input_size_px=32, input_range=(0.0, 1.0), crop="none", enhancement="none")
ANY_BORDER = Ellipse(50.0, 50.0, 50.0, 50.0)


@pytest.mark.parametrize(
    ("path", "box", "sha1"),
    [
        ("producer/samples/retina.jpg", (5, 1401, 8, 1402), "edc2176f4912ceef5667f207fedebc850fc3025d"),
        ("tests/data/fundus/IDRiD_018.jpg", (0, 2848, 282, 3694), "573ac0b4fa6f197ddcf7ec6848063010be6c85b3"),
    ],
)
def test_bytes_of_the_training_pictures(path: str, box: tuple[int, int, int, int], sha1: str) -> None:
    """Sums as published with the weights; decoded at full size, as there."""
    photograph = Photograph(cv2.imread(str(ROOT / path), cv2.IMREAD_COLOR_RGB))  # type: ignore[arg-type]
    enhanced = enhance(photograph, Field(*box, ANY_BORDER), RECIPE)
    assert (enhanced.shape, enhanced.dtype) == ((224, 224, 3), np.uint8)
    assert hashlib.sha1(enhanced.tobytes()).hexdigest() == sha1


def test_even_field_becomes_the_offset() -> None:
    even = Photograph(np.full((300, 300, 3), 90, np.uint8))
    enhanced = enhance(even, Field(0, 300, 0, 300, ANY_BORDER), RECIPE.model_copy(update={"offset": 100.0}))
    assert enhanced[112, 112].tolist() == [100, 100, 100]


def test_gain_multiplies_the_difference_from_the_background() -> None:
    # One pixel of 60 in 50: the blur of sigma 224 / 30 leaves it at its own height times 1 / (2 pi sigma²), which is
    # 0.03 grey levels and rounds to none, so gain 4 gives 128 + 4 * 10.
    rgb = np.full((224, 224, 3), 50, np.uint8)
    rgb[112, 112] = 60
    enhanced = enhance(Photograph(rgb), Field(0, 224, 0, 224, ANY_BORDER), RECIPE)
    assert enhanced[112, 112].tolist() == [168, 168, 168]
    assert enhanced[112, 114].tolist() == [128, 128, 128]


def test_outside_of_the_inscribed_circle_is_replaced() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (224, 224, 3), np.uint8)
    field = Field(0, 224, 0, 224, ANY_BORDER)
    cut = enhance(Photograph(rgb), field, RECIPE.model_copy(update={"outside": 7}))
    uncut = enhance(Photograph(rgb), field, RECIPE.model_copy(update={"cut_to_circle": False}))
    y, x = np.mgrid[:224, :224]
    distance = np.hypot(x - 112, y - 112)
    assert (cut[distance > 113] == 7).all()
    assert np.array_equal(cut[distance < 111], uncut[distance < 111])


def test_rim_is_replaced_where_the_recipe_keeps_a_smaller_circle() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (224, 224, 3), np.uint8)
    field = Field(0, 224, 0, 224, ANY_BORDER)
    cut = enhance(Photograph(rgb), field, RECIPE.model_copy(update={"circle_share": 0.5}))
    whole = enhance(Photograph(rgb), field, RECIPE)
    y, x = np.mgrid[:224, :224]
    distance = np.hypot(x - 112, y - 112)
    assert (cut[distance > 57] == 128).all()
    assert np.array_equal(cut[distance < 55], whole[distance < 55])


def test_recipe_without_enhancement_only_resizes() -> None:
    blocks = np.arange(64, dtype=np.uint8).reshape(8, 8).repeat(8, axis=0).repeat(8, axis=1)
    rgb = np.stack([blocks] * 3, axis=2)
    enhanced = enhance(Photograph(rgb), Field(0, 64, 0, 64, ANY_BORDER), PLAIN)
    assert np.array_equal(enhanced, rgb[::2, ::2])


def test_only_the_box_is_used() -> None:
    rgb = np.zeros((100, 120, 3), np.uint8)
    rgb[10:42, 20:52] = 77
    enhanced = enhance(Photograph(rgb), Field(10, 42, 20, 52, ANY_BORDER), PLAIN)
    assert (enhanced == 77).all()
