"""Plots of an evaluation: confusion matrix, ROC curves, reliability diagram and operating points."""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from worker.core.vocabulary import Grade
from worker.evaluation.agreement import CUTS, reliability_bins, roc_points
from worker.evaluation.document import Evaluation
from worker.evaluation.labelled import NOT_GRADED, Labelled
from worker.evaluation.operating_points import draw_operating_points, has_sources
from worker.evaluation.palette import BLUE, GREY, VERMILION
from worker.evaluation.plot_style import choose_readable, shade_map, write_plot
from worker.evaluation.view import format_estimate, format_name

SIZE_INCHES = (5.6, 5.4)


def draw_plots(evaluation: Evaluation, images: Labelled, out: Path) -> list[Path]:
    """Write PNG files to the folder `out`, each for light and for dark pages; return the paths of those for light ones.

    The operating points are drawn if the images come from several sources.
    """
    graded = images.select(images.grades != NOT_GRADED)
    drawings: dict[str, Callable[[Figure], object]] = {
        "confusion.png": lambda figure: _confusion(figure.subplots(), evaluation),
        "roc.png": lambda figure: _roc(figure.subplots(), evaluation, graded),
        "reliability.png": lambda figure: _reliability(figure.subplots(), evaluation, graded),
    }
    if has_sources(evaluation):
        drawings["operating-points.png"] = lambda figure: draw_operating_points(figure, evaluation)
    return [write_plot(out / name, SIZE_INCHES, draw)[0] for name, draw in drawings.items()]


def _confusion(axes: Axes, evaluation: Evaluation) -> None:
    counts = np.array(evaluation.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shades = shade_map()
    axes.imshow(shares, cmap=shades, vmin=0, vmax=1)
    axes.grid(visible=False)
    for (row, column), count in np.ndenumerate(counts):
        colour = choose_readable(shades(shares[row, column]))
        text = f"{count:,}\n{shares[row, column]:.0%}" if count else "0"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    axes.set(xlabel="grade", ylabel="reference grade", xticks=list(Grade), yticks=list(Grade))
    axes.set_title(f"{evaluation.run}: kappa {format_estimate(evaluation.figures['quadratic_weighted_kappa'])}")


def _roc(axes: Axes, evaluation: Evaluation, graded: Labelled) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    for (name, cut), colour, style in zip(CUTS.items(), (BLUE, VERMILION), ("-", "--"), strict=True):
        truth = graded.reference >= cut
        if truth.all() or not truth.any():
            continue
        curve = roc_points(truth, graded.probabilities[:, cut], np.ones(len(truth)))
        label = f"{format_name(name)}: {format_estimate(evaluation.figures[f'{name}_auc'])}"
        axes.plot(*curve.T, color=colour, linestyle=style, linewidth=1.8, label=label)
        specificity, sensitivity = (
            evaluation.figures[f"{name}_{kind}"].value for kind in ("specificity", "sensitivity")
        )
        if specificity is not None and sensitivity is not None:
            axes.plot(
                1 - specificity,
                sensitivity,
                color=colour,
                marker="o",
                markersize=8,
                markerfacecolor=mpl.rcParams["axes.facecolor"],
            )
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_title(f"{evaluation.run}: ROC; circles mark the thresholds in use")
    _add_legend(axes)


def _reliability(axes: Axes, evaluation: Evaluation, graded: Labelled) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    for (name, cut), colour, style in zip(CUTS.items(), (BLUE, VERMILION), ("-", "--"), strict=True):
        truth = graded.reference >= cut
        bins = reliability_bins(truth, graded.probabilities[:, cut], np.ones(len(truth)))
        filled = bins[bins[:, 2] > 0]
        label = f"{format_name(name)}: error {format_estimate(evaluation.figures[f'{name}_calibration_error'])}"
        axes.plot(filled[:, 0], filled[:, 1], color=colour, linestyle=style, linewidth=1.2, label=label)
        axes.scatter(
            filled[:, 0], filled[:, 1], s=12 + 250 * filled[:, 2] / max(len(truth), 1), color=colour, alpha=0.7
        )
    axes.set(
        xlabel="predicted probability",
        ylabel="observed fraction",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
        aspect="equal",
    )
    axes.set_title(f"{evaluation.run}: reliability; dots grow with images")
    _add_legend(axes)


def _add_legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right")
    else:
        axes.text(0.5, 0.5, "needs images on both sides of a cut", ha="center", va="center")
