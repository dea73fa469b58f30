"""The bounding box is that of the training images, the border that of the round field."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from worker.core.errors import Ungradable
from worker.imaging.photograph import Photograph
from worker.imaging.recipe import Recipe
from worker.imaging.steps.find_field import find_field

SAMPLES = Path(__file__).parents[5] / "producer" / "demo" / "samples"
RECIPE = Recipe(
    input_size_px=224, input_range=(-2.0, 127 / 64), crop="lit_box", enhancement="graham", cut_to_circle=True
)


def read(name: str) -> NDArray[np.uint8]:
    return cv2.imread(str(SAMPLES / name), cv2.IMREAD_COLOR_RGB)  # type: ignore[return-value]


def disc(height: int, width: int, x: int, y: int, radius: int, level: int = 150) -> NDArray[np.uint8]:
    picture = np.zeros((height, width, 3), np.uint8)
    return cv2.circle(picture, (x, y), radius, (level, level // 2, level // 4), -1)  # type: ignore[return-value]


def test_box_of_a_disc_excludes_lines_with_few_foreground_pixels() -> None:
    # Radius 100 in 400 x 400: a line counts if its chord is longer than 2 % of 400 = 8 pixels. The chord at distance d
    # is 2 sqrt(100² - d²) + 1 pixels: about 29 at d = 99 and 1 at d = 100.
    field = find_field(Photograph(disc(400, 400, 200, 180, 100)), RECIPE)
    assert (field.top, field.bottom, field.left, field.right) == (180 - 99, 180 + 100, 200 - 99, 200 + 100)


def test_border_of_the_same_disc() -> None:
    border = find_field(Photograph(disc(400, 400, 200, 180, 100)), RECIPE).border
    assert (border.centre_x, border.centre_y) == pytest.approx((200, 180), abs=1)
    assert (border.radius_x_px, border.radius_y_px) == pytest.approx((100, 100), abs=1)


def test_threshold_rises_with_the_brightest_pixel() -> None:
    picture = disc(400, 400, 200, 200, 100)
    picture[:40] = 12  # Above lit_floor, below 6 % of 240.
    picture[200, 200] = 240
    assert find_field(Photograph(picture), RECIPE).top == 200 - 99


def test_recipe_without_a_crop_keeps_the_whole_photograph() -> None:
    recipe = RECIPE.model_copy(update={"crop": "none"})
    field = find_field(Photograph(disc(300, 400, 200, 150, 100)), recipe)
    assert (field.top, field.bottom, field.left, field.right) == (0, 300, 0, 400)
    assert field.border.radius_x_px == pytest.approx(100, abs=1)


@pytest.mark.parametrize(
    ("name", "box"),
    [
        ("retina.jpg", (5, 1401, 8, 1402)),
        ("IDRiD_138.jpg", (0, 512, 47, 663)),
        ("IDRiD_008.jpg", (0, 512, 51, 666)),
    ],
)
def test_real_photographs(name: str, box: tuple[int, ...]) -> None:
    """Boxes of the published training images. All three fields touch their box on the left and right."""
    field = find_field(Photograph(read(name)), RECIPE)
    _, _, left, right = box
    assert (field.top, field.bottom, field.left, field.right) == box
    assert field.border.centre_x == pytest.approx((left + right - 1) / 2, abs=1.5)
    assert field.border.radius_x_px == field.border.radius_y_px == pytest.approx((right - left) / 2, abs=1.5)


def test_field_scales_with_the_photograph() -> None:
    whole = read("retina.jpg")
    half = cv2.resize(whole, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(np.uint8)
    big, small = (find_field(Photograph(picture), RECIPE) for picture in (whole, half))
    assert small.border.radius_x_px == pytest.approx(big.border.radius_x_px / 2, rel=0.003)
    assert small.right - small.left == pytest.approx((big.right - big.left) / 2, abs=2)


def test_black_frame_has_no_field() -> None:
    with pytest.raises(
        Ungradable, match="0 foreground rows and 0 columns, brightest value 3; minimum 20 of each"
    ) as caught:
        find_field(Photograph(np.full((512, 771, 3), 3, np.uint8)), RECIPE)
    assert caught.value.code == "no_field"


@pytest.mark.parametrize("level", [60, 128, 255])
def test_uniform_frame_has_no_field(level: int) -> None:
    with pytest.raises(Ungradable, match="no round border") as caught:
        find_field(Photograph(np.full((512, 771, 3), level, np.uint8)), RECIPE)
    assert caught.value.code == "no_field"
