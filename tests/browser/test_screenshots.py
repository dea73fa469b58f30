"""The pages look as they were last judged. A change that is wanted: python -m tests.browser.screenshots, and look."""

from typing import TYPE_CHECKING

import cv2
import pytest

from tests.browser.screenshots import SCENES, Picture, read_reference, share_that_differs, take_all

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TOLERATED = 0.01
"""Of the area: a badge of another colour in each row of a table is more."""


@pytest.fixture(scope="module")
def taken(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> dict[str, Picture]:
    return take_all(browser, tmp_path_factory.mktemp("scenes"))


@pytest.mark.parametrize("name", SCENES)
def test_page_looks_as_it_was_judged(
    taken: dict[str, Picture], name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    differs = share_that_differs(taken[name], read_reference(name))
    if differs > TOLERATED:
        seen = tmp_path_factory.getbasetemp() / f"{name}.png"
        cv2.imwrite(str(seen), taken[name])
        pytest.fail(f"{differs:.1%} of {name} looks otherwise: see {seen}; python -m tests.browser.screenshots renews")


def test_comparison_sees_what_a_person_would(taken: dict[str, Picture]) -> None:
    light = taken["report"]
    assert share_that_differs(light, taken["report-dark"]) > 0.9
    assert share_that_differs(light, light[:-1]) == 1.0
    moved = light.copy()
    moved[40:-3] = light[43:]  # twelve pixels of the window, from the tables down
    assert share_that_differs(light, moved) > 3 * TOLERATED
    other = taken["console"].copy()
    other[60:90, 60:90] = 0  # the photograph has a hole
    assert share_that_differs(taken["console"], other) > TOLERATED
    noisy = cv2.GaussianBlur(light, (3, 3), 0.8)  # edges are drawn otherwise
    assert share_that_differs(light, noisy) < TOLERATED / 3
