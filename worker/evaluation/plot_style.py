"""The house style of plots: one font, and one palette for colour-blind readers, on light and on dark pages."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.typing import ColorType

from worker.evaluation.figure_file import write_figure

DPI = 150
FONT = "DejaVu Sans"
"""Comes with Matplotlib, so that a plot looks the same on every machine."""


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a page. suffix: of the file names of its plots. series: for `palette`, in its order."""

    suffix: str
    page: str
    ink: str
    quiet: str
    lines: str
    series: tuple[str, ...]


# Okabe and Ito (2008); on dark pages lighter, in the same order.
LIGHT = Theme("", "#ffffff", "#1b1f23", "#57606a", "#d8dee4", ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#8c959f"))
DARK = Theme(
    "-dark", "#14171a", "#e8eaed", "#aab2bb", "#3a4047", ("#56B4E9", "#FF8A5B", "#3DD6A3", "#FFC857", "#7d858f")
)


@contextmanager
def house_style(theme: Theme = LIGHT) -> Iterator[None]:
    """Draw in this style within the context; a figure must be made, drawn and saved in it."""
    style: dict[Any, Any] = {
        "font.family": FONT,
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.prop_cycle": cycler(color=theme.series),
        "axes.edgecolor": theme.quiet,
        "axes.labelcolor": theme.ink,
        "axes.facecolor": theme.page,
        "figure.facecolor": theme.page,
        "savefig.facecolor": theme.page,
        "grid.color": theme.lines,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "lines.linewidth": 1.8,
        "text.color": theme.ink,
        "xtick.color": theme.quiet,
        "ytick.color": theme.quiet,
    }
    with mpl.rc_context(style):
        yield


def shade_map() -> LinearSegmentedColormap:
    """Return a colour map from the page to the first colour of the series, of the style in use."""
    first = mpl.rcParams["axes.prop_cycle"].by_key()["color"][0]
    return LinearSegmentedColormap.from_list("shades", [mpl.rcParams["axes.facecolor"], first])


def choose_readable(ground: ColorType) -> str:
    """Return the colour of text or page, of the style in use, that has the higher contrast on a ground."""
    luminance = _luminance(ground)

    def contrast(colour: str) -> float:
        low, high = sorted((luminance, _luminance(colour)))
        return (high + 0.05) / (low + 0.05)

    return max(str(mpl.rcParams["text.color"]), str(mpl.rcParams["axes.facecolor"]), key=contrast)


def _luminance(colour: ColorType) -> float:
    """Return the relative luminance, as WCAG 2 defines it."""
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def dark_variant(path: str) -> str:
    """Return the path of a plot for dark pages. path: of the one for light pages."""
    light = PurePosixPath(path)
    return str(light.with_stem(f"{light.stem}{DARK.suffix}"))


def write_plot(file: Path, size_inches: tuple[float, float], draw: Callable[[Figure], object]) -> list[Path]:
    """Draw a plot for light and for dark pages, and write `NAME.png` and `NAME-dark.png`; return their paths."""
    files = []
    for theme in (LIGHT, DARK):
        with house_style(theme):
            figure = Figure(figsize=size_inches, layout="constrained")
            draw(figure)
            files.append(file.with_stem(f"{file.stem}{theme.suffix}"))
            write_figure(figure, files[-1], dpi=DPI)
    return files
