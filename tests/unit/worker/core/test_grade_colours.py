"""The colours of the grades, on the pages and by themselves."""

from importlib.resources import files
from itertools import pairwise

import pytest

from worker.core.grade_colours import DARK, LIGHT, format_variables
from worker.core.vocabulary import Grade


def luminance(colour: str) -> float:
    """Return the relative luminance of `#rrggbb` (WCAG 2.2)."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def lightness(colour: str) -> float:
    """Return L* of CIELAB."""
    return 116 * luminance(colour) ** (1 / 3) - 16


@pytest.mark.parametrize(("colours", "direction"), [(LIGHT, -1), (DARK, 1)])
def test_urgency_rises_in_lightness_alone(colours: dict[Grade, tuple[str, str]], direction: int) -> None:
    steps = [direction * lightness(colours[grade][0]) for grade in Grade]
    assert all(after - before > 5 for before, after in pairwise(steps))


@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_text_on_each_grade_is_readable(colours: dict[Grade, tuple[str, str]]) -> None:
    for fill, ink in colours.values():
        darker, lighter = sorted((luminance(fill), luminance(ink)))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5


@pytest.mark.parametrize("sheet", ["console/static/console.css", "report/static/report.css"])
def test_pages_have_these_colours(sheet: str) -> None:
    style = (files("worker") / sheet).read_text(encoding="utf-8")
    assert format_variables(LIGHT) in style
    assert format_variables(DARK) in style
