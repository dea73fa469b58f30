"""Only hopeless photographs are refused, with the reason and its figure."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from worker.contract.errors import Ungradable
from worker.items import Ellipse, Field, Photograph
from worker.steps.gradability import assess_gradability

SAMPLES = Path(__file__).parents[4] / "producer" / "samples"
RETINA_FIELD = Field(5, 1401, 8, 1402, Ellipse(704.4, 703.1, 698.1, 698.1))
IDRID_FIELD = Field(0, 512, 47, 666, Ellipse(356.0, 255.0, 308.0, 308.0))
RETINA = cv2.imread(str(SAMPLES / "retina.jpg"), cv2.IMREAD_COLOR_RGB)
SQUARE = Field(0, 224, 0, 224, Ellipse(111.5, 111.5, 112.0, 112.0))


def refusal(rgb: NDArray[np.uint8], field: Field) -> tuple[str, str]:
    with pytest.raises(Ungradable) as caught:
        assess_gradability(Photograph(rgb), field)
    return caught.value.code, caught.value.detail


def chessboard(low: int, high: int, cell_px: int = 1) -> NDArray[np.uint8]:
    """A board whose cells differ in every channel alike, 224 x 224."""
    y, x = np.mgrid[:224, :224] // cell_px
    return np.where((x + y) % 2, high, low).astype(np.uint8)[..., None].repeat(3, axis=2)


@pytest.mark.parametrize("name", sorted(path.name for path in SAMPLES.glob("IDRiD_*.jpg")))
def test_photographs_that_experts_graded_pass(name: str) -> None:
    rgb = cv2.imread(str(SAMPLES / name), cv2.IMREAD_COLOR_RGB)
    assess_gradability(Photograph(rgb), IDRID_FIELD)  # type: ignore[arg-type]


def test_dim_but_readable_photograph_passes_and_a_darker_one_does_not() -> None:
    assess_gradability(Photograph((RETINA * 0.3).astype(np.uint8)), RETINA_FIELD)
    code, detail = refusal((RETINA * 0.1).astype(np.uint8), RETINA_FIELD)
    assert code == "too_dark"
    assert detail.endswith("25 is needed")


def test_median_brightness_is_told_exactly() -> None:
    assert refusal(chessboard(20, 22), SQUARE)[0] == "too_dark"
    assert refusal(np.full((224, 224, 3), 24, np.uint8), SQUARE) == ("too_dark", "median brightness 24, 25 is needed")
    assert refusal(np.full((224, 224, 3), 25, np.uint8), SQUARE)[0] == "low_contrast"


def test_white_frame_is_over_exposed() -> None:
    white = np.full((224, 224, 3), 255, np.uint8)
    assert refusal(white, SQUARE) == ("over_exposed", "100% of the field is saturated, limit 25%")
    half = chessboard(100, 255)
    assert refusal(half, SQUARE) == ("over_exposed", "50% of the field is saturated, limit 25%")


def test_evenly_grey_field_has_no_contrast() -> None:
    grey = np.full((224, 224, 3), 128, np.uint8)
    assert refusal(grey, SQUARE) == ("low_contrast", "contrast 0.00 grey levels, 1.2 are needed")


def test_contrast_is_half_the_difference_of_a_fine_board() -> None:
    # A board of single pixels blurs to its mean, so the deviation is half the difference: 1.0 and 1.5 grey levels.
    assert refusal(chessboard(100, 102), SQUARE) == ("low_contrast", "contrast 1.00 grey levels, 1.2 are needed")
    assess_gradability(Photograph(chessboard(100, 103)), SQUARE)


def test_blurred_photograph_is_refused_and_a_slightly_soft_one_is_not() -> None:
    # Sigmas in pixels of the photograph, whose field is 6.2 times as large as where sharpness is measured.
    assess_gradability(Photograph(cv2.GaussianBlur(RETINA, (0, 0), 5)), RETINA_FIELD)  # type: ignore[arg-type]
    code, detail = refusal(cv2.GaussianBlur(RETINA, (0, 0), 30), RETINA_FIELD)  # type: ignore[arg-type]
    assert code == "blurred"
    assert detail.endswith("of the contrast is in fine detail, 0.2 is needed")


def test_border_that_misses_its_box_is_no_field() -> None:
    field = Field(0, 224, 0, 224, Ellipse(900.0, 900.0, 50.0, 50.0))
    assert refusal(chessboard(50, 150), field)[0] == "no_field"
