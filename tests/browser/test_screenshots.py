"""The pages look like their reference screenshots.

After an intended change, inspect the pages and run python -m tests.browser.screenshots.
"""

from typing import TYPE_CHECKING

import cv2
import pytest

from tests.browser.screenshots import SCENES, Picture, differing_share, read_reference, take_screenshots

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TOLERATED = 0.01
"""Share of the area that may differ. One badge of another colour in each row of a table exceeds it."""


@pytest.fixture(scope="module")
def taken(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> dict[str, Picture]:
    return take_screenshots(browser, tmp_path_factory.mktemp("scenes"))


@pytest.mark.parametrize("name", SCENES)
def test_page_equals_its_reference(
    taken: dict[str, Picture], name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    differs = differing_share(taken[name], read_reference(name))
    if differs > TOLERATED:
        seen = tmp_path_factory.getbasetemp() / f"{name}.png"
        cv2.imwrite(str(seen), taken[name])
        pytest.fail(f"{differs:.1%} of {name} differs: inspect {seen}; update with python -m tests.browser.screenshots")


def test_comparison_detects_visible_changes(taken: dict[str, Picture]) -> None:
    light = taken["report"]
    assert differing_share(light, taken["report-dark"]) > 0.7
    assert differing_share(light, light[:-1]) == 1.0
    moved = light.copy()
    moved[40:-3] = light[43:]  # shifted by twelve pixels of the window, from the tables down
    assert differing_share(light, moved) > 3 * TOLERATED
    other = taken["console"].copy()
    other[60:90, 60:90] = 0  # a hole in the photograph
    assert differing_share(taken["console"], other) > TOLERATED
    noisy = cv2.GaussianBlur(light, (3, 3), 0.8)  # edges rendered differently
    assert differing_share(light, noisy) < TOLERATED / 3
