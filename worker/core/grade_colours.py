"""Colours of the ICDR grades on pages and plots.

Urgency rises from grade 0 to 4 as contrast with the page: lightness falls on a light page and rises on a dark one, so
that the order is the same to readers who do not distinguish red from green, and on a grey printout.
"""

from worker.core.vocabulary import Grade

LIGHT = {
    Grade.NO_DR: ("#e6eaee", "#1b1f24"),
    Grade.MILD: ("#f6d777", "#1b1f24"),
    Grade.MODERATE: ("#ed9a3a", "#1b1f24"),
    Grade.SEVERE: ("#c4431a", "#ffffff"),
    Grade.PROLIFERATIVE: ("#7a0f3a", "#ffffff"),
}
"""Fill and text colour of each grade on a light page."""
DARK = {
    Grade.NO_DR: ("#2f353c", "#f1f3f5"),
    Grade.MILD: ("#54481f", "#f1f3f5"),
    Grade.MODERATE: ("#8f6420", "#ffffff"),
    Grade.SEVERE: ("#dd7a3c", "#14171a"),
    Grade.PROLIFERATIVE: ("#ff9d9d", "#14171a"),
}
"""Fill and text colour of each grade on a dark page."""


def format_variables(colours: dict[Grade, tuple[str, str]]) -> str:
    """Return the CSS declarations of the fills `--g0` to `--g4` and the text colours `--i0` to `--i4`, in one line."""
    fills = " ".join(f"--g{grade:d}: {fill};" for grade, (fill, _) in colours.items())
    inks = " ".join(f"--i{grade:d}: {ink};" for grade, (_, ink) in colours.items())
    return f"{fills} {inks}"
