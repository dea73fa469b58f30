"""The enhanced image is, byte for byte, the one that the model was trained on."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from worker.imaging.photograph import Ellipse, Field, Photograph
from worker.imaging.recipe import Recipe
from worker.imaging.steps.enhance import enhance_field

ROOT = Path(__file__).parents[5]
RECIPE = Recipe(
    input_size_px=224, input_range=(-2.0, 127 / 64), crop="lit_box", enhancement="graham", cut_to_circle=True
)
PLAIN = Recipe(input_size_px=32, input_range=(0.0, 1.0), crop="none", enhancement="none")
ANY_BORDER = Ellipse(50.0, 50.0, 50.0, 50.0)


@pytest.mark.parametrize(
    ("path", "box", "sha1"),
    [
        ("producer/demo/samples/retina.jpg", (5, 1401, 8, 1402), "edc2176f4912ceef5667f207fedebc850fc3025d"),
        ("tests/data/fundus/IDRiD_018.jpg", (0, 2848, 282, 3694), "573ac0b4fa6f197ddcf7ec6848063010be6c85b3"),
    ],
)
def test_bytes_of_the_training_images(path: str, box: tuple[int, int, int, int], sha1: str) -> None:
    """Checksums as published with the weights, for full-size decoding."""
    photograph = Photograph(cv2.imread(str(ROOT / path), cv2.IMREAD_COLOR_RGB))  # type: ignore[arg-type]
    enhanced = enhance_field(photograph, Field(*box, ANY_BORDER), RECIPE)
    assert (enhanced.shape, enhanced.dtype) == ((224, 224, 3), np.uint8)
    assert hashlib.sha1(enhanced.tobytes()).hexdigest() == sha1


def test_uniform_field_becomes_the_offset() -> None:
    even = Photograph(np.full((300, 300, 3), 90, np.uint8))
    enhanced = enhance_field(even, Field(0, 300, 0, 300, ANY_BORDER), RECIPE.model_copy(update={"offset": 100.0}))
    assert enhanced[112, 112].tolist() == [100, 100, 100]


def test_gain_multiplies_the_difference_from_the_background() -> None:
    # One pixel of 60 in 50: a blur with sigma = 224 / 30 divides the difference of 10 by 2 pi sigma² to 0.03, which
    # rounds to 0, so gain 4 gives 128 + 4 * 10.
    rgb = np.full((224, 224, 3), 50, np.uint8)
    rgb[112, 112] = 60
    enhanced = enhance_field(Photograph(rgb), Field(0, 224, 0, 224, ANY_BORDER), RECIPE)
    assert enhanced[112, 112].tolist() == [168, 168, 168]
    assert enhanced[112, 114].tolist() == [128, 128, 128]


def test_pixels_outside_the_inscribed_circle_are_replaced() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (224, 224, 3), np.uint8)
    field = Field(0, 224, 0, 224, ANY_BORDER)
    cut = enhance_field(Photograph(rgb), field, RECIPE.model_copy(update={"outside": 7}))
    uncut = enhance_field(Photograph(rgb), field, RECIPE.model_copy(update={"cut_to_circle": False}))
    y, x = np.mgrid[:224, :224]
    distance = np.hypot(x - 112, y - 112)
    assert (cut[distance > 113] == 7).all()
    assert np.array_equal(cut[distance < 111], uncut[distance < 111])


def test_recipe_can_keep_a_smaller_circle() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (224, 224, 3), np.uint8)
    field = Field(0, 224, 0, 224, ANY_BORDER)
    cut = enhance_field(Photograph(rgb), field, RECIPE.model_copy(update={"circle_share": 0.5}))
    whole = enhance_field(Photograph(rgb), field, RECIPE)
    y, x = np.mgrid[:224, :224]
    distance = np.hypot(x - 112, y - 112)
    assert (cut[distance > 57] == 128).all()
    assert np.array_equal(cut[distance < 55], whole[distance < 55])


def test_recipe_without_enhancement_only_resizes() -> None:
    blocks = np.arange(64, dtype=np.uint8).reshape(8, 8).repeat(8, axis=0).repeat(8, axis=1)
    rgb = np.stack([blocks] * 3, axis=2)
    enhanced = enhance_field(Photograph(rgb), Field(0, 64, 0, 64, ANY_BORDER), PLAIN)
    assert np.array_equal(enhanced, rgb[::2, ::2])


def test_pixels_outside_the_box_are_ignored() -> None:
    rgb = np.zeros((100, 120, 3), np.uint8)
    rgb[10:42, 20:52] = 77
    enhanced = enhance_field(Photograph(rgb), Field(10, 42, 20, 52, ANY_BORDER), PLAIN)
    assert (enhanced == 77).all()


ROUND = PLAIN.model_copy(update={"input_size_px": 100, "crop": "field", "outside": 9})


def uniform_field(height: int, width: int, border: Ellipse) -> Photograph:
    """Grey level 200 within the border, 0 outside."""
    y, x = np.mgrid[:height, :width]
    across, down = (x - border.centre_x) / border.radius_x_px, (y - border.centre_y) / border.radius_y_px
    return Photograph(np.repeat(np.where(across**2 + down**2 <= 1, 200, 0)[..., None], 3, axis=2).astype(np.uint8))


def test_elliptical_field_becomes_round() -> None:
    border = Ellipse(180.0, 150.0, 100.0, 60.0)
    enhanced = enhance_field(uniform_field(300, 400, border), Field(92, 209, 82, 279, border), ROUND)[..., 0]
    y, x = np.mgrid[:100, :100] - 49.5
    distance = np.hypot(y, x)
    assert (enhanced[distance < 48.5] == 200).all()
    assert np.isin(enhanced[distance > 51.5], (0, 9)).all()


def test_cut_off_field_is_padded_and_not_stretched() -> None:
    # A circle of radius 100 centred in row 74 of an image of 150 rows: the crop's rows -26 to 173 are resized to 100
    # rows, of which 13 to 87 show the image.
    border = Ellipse(149.5, 74.0, 100.0, 100.0)
    enhanced = enhance_field(uniform_field(150, 300, border), Field(0, 150, 51, 248, border), ROUND)[..., 0]
    assert (enhanced[:13] == 9).all()
    assert (enhanced[88:] == 9).all()
    y, x = np.mgrid[:100, :100] - 49.5
    visible = np.abs(y + 0.5) < 36
    assert (enhanced[visible & (np.hypot(y, x) < 48.5)] == 200).all()
    assert np.isin(enhanced[visible & (np.hypot(y, x) > 51.5)], (0, 9)).all()


def test_dark_area_beyond_a_straight_cut_is_padding_too() -> None:
    border = Ellipse(149.5, 99.5, 100.0, 100.0)
    photograph = uniform_field(200, 300, border)
    photograph.rgb[150:] = 0
    graham = ROUND.model_copy(update={"enhancement": "graham", "outside": 128})
    enhanced = enhance_field(photograph, Field(0, 150, 50, 250, border), graham)
    assert (enhanced[75:] == 128).all()
    assert (enhanced[70:75, 40:60] == 128).all()


def test_padding_leaves_no_rim_at_the_cut() -> None:
    border = Ellipse(149.5, 74.0, 100.0, 100.0)
    graham = ROUND.model_copy(update={"enhancement": "graham", "cut_to_circle": True, "circle_share": 0.5})
    enhanced = enhance_field(uniform_field(150, 300, border), Field(0, 150, 51, 248, border), graham)
    y, x = np.mgrid[:100, :100] - 50
    # Within half the radius the image is uniform, also next to the cut.
    uniform = (np.hypot(y, x) < 22) & (y > -36) & (y < 36)
    assert (enhanced[uniform] == 128).all()
    assert (enhanced[:13] == 9).all()


def test_crops_of_a_whole_round_field_are_equal() -> None:
    border = Ellipse(99.5, 99.5, 100.0, 100.0)
    field = Field(0, 200, 0, 200, border)
    rgb = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    as_box = enhance_field(Photograph(rgb), field, RECIPE)
    assert np.array_equal(enhance_field(Photograph(rgb), field, RECIPE.model_copy(update={"crop": "field"})), as_box)
