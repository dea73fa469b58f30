"""The plots of an evaluation are drawn for light and for dark pages, and show the sources that it has."""

from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.unit.worker.evaluation.labelled_images import labelled
from worker.evaluation.document import Evaluation, evaluate
from worker.evaluation.labelled import GradedRun, Labelled
from worker.evaluation.operating_points import draw_operating_points
from worker.evaluation.plot_style import DARK, LIGHT, choose_readable, house_style, shade_map
from worker.evaluation.plots import draw_plots

SOURCES = np.array(["north"] * 4 + ["south"] * 4)


@pytest.fixture
def images() -> Labelled:
    """North: 2 of 2 referable found, 2 of 2 others passed. South: 1 of 2, and 1 of 2."""
    return labelled(reference=[2, 3, 0, 1] * 2, grades=[2, 3, 0, 1, 2, 1, 0, 2])


def evaluated(images: Labelled, sources: "np.ndarray | None" = None) -> Evaluation:
    run = GradedRun(0, "july", "finished", "0" * 16, "model", {})
    columns = {} if sources is None else {"source": sources}
    return evaluate(run, images, columns, resamples=10, seed=0, on_progress=lambda: None)


def test_each_plot_has_the_colour_of_its_page(images: Labelled, tmp_path: Path) -> None:
    shown = draw_plots(evaluated(images), images, tmp_path)
    assert [path.name for path in shown] == ["confusion.png", "roc.png", "reliability.png"]
    for path in shown:
        for theme in (LIGHT, DARK):
            picture = cv2.imread(str(path.with_stem(f"{path.stem}{theme.suffix}")))
            assert picture is not None
            blue, green, red = picture[0, 0]
            assert f"#{red:02x}{green:02x}{blue:02x}" == theme.page


def test_each_source_is_one_operating_point(images: Labelled) -> None:
    figure = Figure()
    with house_style():
        draw_operating_points(figure, evaluated(images, SOURCES))
        (axes,) = figure.axes
        points = {
            str(container.get_label()): tuple(container.lines[0].get_xydata()[0]) for container in axes.containers
        }
    assert points == {"north, 4": (1.0, 1.0), "south, 4": (0.5, 0.5), "all, 8": (0.75, 0.75)}


def test_legend_counts_graded_images() -> None:
    without_grade = labelled(reference=[2, 3, 0, 1] * 2, grades=[2, 3, 0, None, 2, 1, 0, 2])
    figure = Figure()
    with house_style():
        draw_operating_points(figure, evaluated(without_grade, SOURCES))
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["north, 3", "south, 4", "all, 7"]


def test_text_is_readable_on_every_shade() -> None:
    for theme in (LIGHT, DARK):
        with house_style(theme):
            assert (choose_readable(theme.page), choose_readable(theme.ink)) == (theme.ink, theme.page)
            assert choose_readable(shade_map()(0.57)) == LIGHT.ink if theme is LIGHT else DARK.ink


def test_style_ends_with_its_context() -> None:
    before = mpl.rcParams["figure.facecolor"]
    with house_style(DARK):
        assert mpl.rcParams["figure.facecolor"] == DARK.page
    assert mpl.rcParams["figure.facecolor"] == before
