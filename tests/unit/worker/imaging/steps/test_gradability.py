"""Only unusable photographs and other images are refused, with the reason and its value."""

from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.benchmarks.degradations import DEGRADATIONS, other_images
from tests.benchmarks.gradability import PASSED, RECIPE, assess
from worker.core.errors import Ungradable
from worker.imaging.photograph import Ellipse, Field, Photograph
from worker.imaging.steps.find_field import find_field
from worker.imaging.steps.gradability import GRADABILITY_LIMITS, QualityMeasures, assess_gradability, measure_quality

SAMPLES = Path(__file__).parents[5] / "producer" / "demo" / "samples"
NAMES = sorted(path.name for path in SAMPLES.glob("IDRiD_*.jpg"))
SQUARE = Field(0, 224, 0, 224, Ellipse(111.5, 111.5, 112.0, 112.0))
RED = np.array([150, 80, 40])


def sample(name: str) -> NDArray[np.uint8]:
    return np.asarray(cv2.imread(str(SAMPLES / name), cv2.IMREAD_COLOR_RGB), np.uint8)


def measure(rgb: NDArray[np.uint8], field: Field = SQUARE) -> QualityMeasures:
    return measure_quality(Photograph(rgb), field)


def refusal(rgb: NDArray[np.uint8], field: Field = SQUARE) -> tuple[str, str]:
    with pytest.raises(Ungradable) as caught:
        assess_gradability(Photograph(rgb), field)
    return caught.value.code, caught.value.detail


def red(pattern: NDArray[np.float64] | float = 0) -> NDArray[np.uint8]:
    """An image in the colour of a fundus, 224 x 224, with a pattern added to every channel."""
    return (RED + np.broadcast_to(pattern, (224, 224))[..., None]).round().clip(0, 255).astype(np.uint8)


def waves(amplitude: float, *, wavelength_x: float, wavelength_y: float) -> NDArray[np.float64]:
    """Sine waves in both directions; wavelengths in pixels, infinite for none."""
    y, x = np.mgrid[:224, :224]
    return amplitude * (np.sin(2 * np.pi * x / wavelength_x) + np.sin(2 * np.pi * y / wavelength_y))


def test_brightness_is_the_median_of_the_brightest_channel() -> None:
    assert measure(red()).brightness == 150
    assert refusal(np.full((224, 224, 3), 24, np.uint8)) == ("too_dark", "median brightness 24, minimum 25")


def test_measures_do_not_depend_on_the_size() -> None:
    small = red(waves(20, wavelength_x=9, wavelength_y=7))
    large = small.repeat(4, axis=0).repeat(4, axis=1)
    odd = np.pad(large, ((0, 1), (0, 1), (0, 0)), mode="edge")
    for picture, tolerance in ((large, 1e-6), (odd, 0.02)):
        height, width, _ = picture.shape
        border = Ellipse((width - 1) / 2, (height - 1) / 2, width / 2, height / 2)
        found = asdict(measure(picture, Field(0, height, 0, width, border)))
        assert found == pytest.approx(asdict(measure(small)), rel=tolerance)


def test_saturation_counts_green_alone() -> None:
    half = red()
    half[:, :112] = 255
    assert measure(half).saturated == pytest.approx(0.5, abs=0.01)
    assert refusal(half) == ("over_exposed", "share of the field that is saturated 0.5, maximum 0.05")
    assert (
        measure(np.dstack([np.full((224, 224), 255, np.uint8), *np.full((2, 224, 224), 90, np.uint8)])).saturated == 0
    )


def test_visible_share_of_a_cut_off_field() -> None:
    assert measure(red()).visible == pytest.approx(1, abs=0.005)
    # Half of a circle is above its centre.
    below = Field(0, 224, 0, 224, Ellipse(111.5, 223.5, 112.0, 112.0))
    assert measure(red(), below).visible == pytest.approx(0.5, abs=0.005)
    assert refusal(red(), below) == ("field_cut_off", "share of the field within the photograph 0.5, minimum 0.62")
    # A sixth of the diameter cut off at top and bottom, as many cameras do: 1 - 2 (acos(2/3) - 2/3 sqrt(5)/3) / pi.
    flat = Field(0, 224, 0, 224, Ellipse(111.5, 111.5, 168.0, 168.0))
    wide = Field(0, 224, 0, 336, Ellipse(167.5, 111.5, 168.0, 168.0))
    cut = 1 - 2 * (np.arccos(2 / 3) - 2 / 3 * 5**0.5 / 3) / np.pi
    assert measure(red(), wide).visible == pytest.approx(cut, abs=0.01)
    assert measure(red(), flat).visible == pytest.approx(1 - 2 * (1 - cut), abs=0.02)


def test_grey_and_colourful_images_are_not_a_fundus() -> None:
    assert measure(red()).reddish == 1
    grey = np.full((224, 224, 3), 128, np.uint8)
    assert refusal(grey) == ("not_a_fundus", "share of the field with more red than green 0, minimum 0.5")
    # Half pure red, half magenta: the median is one of them, and the other is 1 away from it.
    motley = np.zeros((224, 224, 3), np.uint8)
    motley[..., 0] = 200
    motley[100:, :, 2] = 200
    assert measure(motley).colour_spread == pytest.approx(1, abs=0.01)
    assert refusal(motley) == ("not_a_fundus", "colour spread 1, maximum 0.4")


def test_bars_have_more_edges_than_a_retina() -> None:
    bars = (red() * np.where(np.arange(224) // 8 % 2, 1.5, 0.7)[:, None]).astype(np.uint8)
    assert measure(bars).edges > 0.2
    code, detail = refusal(bars)
    assert (code, detail.startswith("share of the field with sharp edges")) == ("not_a_fundus", True)


def test_contrast_of_noise_is_its_standard_deviation() -> None:
    noise = np.random.default_rng(0).normal(0, 5, (224, 224))
    assert measure(red(noise)).contrast == pytest.approx(5, rel=0.03)
    assert refusal(red()) == ("low_contrast", "contrast in grey levels 0, minimum 0.9")


def test_detail_in_one_direction_only_counts_as_blur() -> None:
    plaid, stripes = (red(waves(8, wavelength_x=6, wavelength_y=length)) for length in (6, np.inf))
    # RMS slope of a wave: 8 x 2 pi / 6 / sqrt(2), minus the part below 2 pixels of detail and Sobel's smoothing.
    assert measure(plaid).detail == pytest.approx(3.5, abs=1.5)
    assert measure(stripes).detail < 0.1
    assert refusal(stripes)[0] == "blurred"
    assess_gradability(Photograph(plaid), SQUARE)


def test_border_outside_the_box_is_no_field() -> None:
    assert refusal(red(), Field(0, 224, 0, 224, Ellipse(900.0, 900.0, 50.0, 50.0)))[0] == "no_field"


def test_every_measure_has_one_limit() -> None:
    measures = asdict(measure(red()))
    assert [limit.measure for limit in GRADABILITY_LIMITS] == list(measures)


@pytest.mark.parametrize("name", [*NAMES, "retina.jpg"])
def test_photographs_that_experts_graded_pass(name: str) -> None:
    photograph = Photograph(sample(name))
    assess_gradability(photograph, find_field(photograph, RECIPE))


def test_dim_and_slightly_soft_photographs_pass() -> None:
    retina = cv2.resize(sample("retina.jpg"), (448, 448), interpolation=cv2.INTER_AREA)
    for poorer in ((retina * 0.4).astype(np.uint8), cv2.GaussianBlur(retina, (0, 0), 1.5)):
        assert assess(np.asarray(poorer, np.uint8)) == PASSED


CODES = {
    "blur": {"blurred"},
    "motion": {"blurred"},
    "darkness": {"too_dark", "no_field"},
    "over-exposure": {"over_exposed"},
    "glare": {"over_exposed"},
    "haze": {"low_contrast"},
    "half of the field": {"field_cut_off"},
    "middle alone": {"no_field", "field_cut_off"},
}


@pytest.mark.parametrize("kind", list(DEGRADATIONS))
def test_degraded_photograph_is_refused_for_the_right_reason(kind: str) -> None:
    random = np.random.default_rng(0)
    found = {assess(DEGRADATIONS[kind](sample(name), random)) for name in NAMES[:4]}
    assert found <= CODES[kind]


def test_images_of_something_else_are_refused() -> None:
    found = [assess(rgb) for _, rgb in other_images([], np.random.default_rng(0))]
    assert len(found) >= 120
    assert found.count(PASSED) <= 0.05 * len(found)
    assert "not_a_fundus" in found
