"""The border is found from its visible part: phantoms of known centre and radius."""

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.core.errors import Ungradable
from worker.imaging.border_fit import fit_border
from worker.imaging.photograph import Ellipse

THRESHOLD = 12


def disc(height: int, width: int, truth: Ellipse, level: float = 150.0) -> NDArray[np.float64]:
    """A uniform field with an edge one pixel wide."""
    y, x = np.mgrid[:height, :width]
    relative = np.hypot((x - truth.centre_x) / truth.radius_x_px, (y - truth.centre_y) / truth.radius_y_px)
    return level * np.clip((1 - relative) * min(truth.radius_x_px, truth.radius_y_px) + 0.5, 0, 1)


def fit(picture: NDArray[np.float64], threshold: int = THRESHOLD) -> Ellipse:
    return fit_border(np.clip(np.rint(picture), 0, 255).astype(np.uint8), threshold)


def assert_close(found: Ellipse, truth: Ellipse) -> None:
    """Within 1 px or 0.5 % of the radius, whichever is larger."""
    tolerance = max(1.0, 0.005 * max(truth.radius_x_px, truth.radius_y_px))
    assert found.centre_x == pytest.approx(truth.centre_x, abs=tolerance)
    assert found.centre_y == pytest.approx(truth.centre_y, abs=tolerance)
    assert found.radius_x_px == pytest.approx(truth.radius_x_px, abs=tolerance)
    assert found.radius_y_px == pytest.approx(truth.radius_y_px, abs=tolerance)


@pytest.mark.parametrize(
    ("height", "width", "truth"),
    [
        pytest.param(400, 400, Ellipse(199.5, 199.5, 190, 190), id="whole"),
        pytest.param(400, 600, Ellipse(300.0, 200.0, 240, 240), id="cut off at top and bottom"),
        pytest.param(400, 600, Ellipse(180.3, 150.7, 120.4, 120.4), id="off centre"),
        pytest.param(400, 400, Ellipse(170.0, 200.0, 200, 200), id="cut off on the left"),
        pytest.param(2848, 4288, Ellipse(2101.0, 1435.0, 1720, 1720), id="full size"),
        pytest.param(224, 224, Ellipse(112.0, 111.0, 72, 107), id="resized to a square"),
        pytest.param(224, 224, Ellipse(112.0, 111.5, 88, 132), id="resized to a square and cut off"),
        pytest.param(224, 224, Ellipse(111.5, 111.5, 126, 141), id="only the corners are dark"),
    ],
)
def test_border_of_a_phantom_within_one_pixel_or_half_a_percent(height: int, width: int, truth: Ellipse) -> None:
    assert_close(fit(disc(height, width, truth)), truth)


@pytest.mark.parametrize("level", [30.0, 60.0, 250.0])
def test_dim_and_bright_fields(level: float) -> None:
    truth = Ellipse(250.0, 200.0, 170, 170)
    assert_close(fit(disc(400, 500, truth, level)), truth)


def test_noise_does_not_move_the_border() -> None:
    truth = Ellipse(300.0, 200.0, 240, 240)
    noise = np.random.default_rng(0).normal(0, 6, (400, 600))
    assert_close(fit(disc(400, 600, truth) + noise), truth)


def test_text_and_a_notch_outside_the_field_do_not_move_the_border() -> None:
    truth = Ellipse(250.0, 200.0, 180, 180)
    picture = disc(400, 500, truth)
    picture[8:20, 5:90] = 200
    picture[60:80, 380:410] = 150
    assert_close(fit(picture), truth)


def test_straight_cuts_within_the_image_do_not_flatten_the_border() -> None:
    truth = Ellipse(250.0, 200.0, 190, 190)
    picture = disc(400, 500, truth)
    picture[:40] = 0
    picture[355:] = 0
    assert_close(fit(picture), truth)


def test_border_of_a_field_with_a_dark_half() -> None:
    truth = Ellipse(250.0, 200.0, 180, 180)
    picture = disc(400, 500, truth)
    picture[:, :200] *= 0.02
    assert_close(fit(picture), truth)


def test_glow_around_the_field_does_not_move_the_border() -> None:
    truth = Ellipse(250.0, 200.0, 170, 170)
    assert_close(fit(np.maximum(disc(400, 500, truth), 15)), truth)


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(np.zeros((300, 300)), id="black"),
        pytest.param(np.full((300, 300), 255.0), id="white"),
        pytest.param(np.pad(np.full((200, 200), 150.0), 50), id="square"),
        pytest.param(np.tri(300) * 150.0, id="triangle"),
        pytest.param(np.random.default_rng(0).uniform(0, 255, (300, 300)), id="noise"),
        pytest.param(np.full((1, 9000), 150.0), id="line"),
    ],
)
def test_image_without_a_round_border_is_ungradable(picture: NDArray[np.float64]) -> None:
    with pytest.raises(Ungradable, match=r"no round border: best support 0\.\d\d, minimum 0\.2") as caught:
        fit(picture)
    assert caught.value.code == "no_field"


def test_fit_is_deterministic() -> None:
    picture = disc(400, 500, Ellipse(250.0, 200.0, 170, 170)) + np.random.default_rng(1).normal(0, 8, (400, 500))
    assert fit(picture) == fit(picture)
