"""Plots of an evaluation: confusion matrix, ROC curves and reliability diagram."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from worker.core.vocabulary import Grade
from worker.evaluation.agreement import CUTS, reliability_bins, roc_points
from worker.evaluation.document import Evaluation
from worker.evaluation.figure_file import write_figure
from worker.evaluation.labelled import NOT_GRADED, Labelled
from worker.evaluation.palette import BLUE, VERMILION
from worker.evaluation.view import format_estimate, format_name

DPI = 150


def draw_plots(evaluation: Evaluation, images: Labelled, out: Path) -> list[Path]:
    """Write three PNG files to the folder `out` and return their paths."""
    graded = images.select(images.grades != NOT_GRADED)
    drawings = {"confusion.png": _confusion, "roc.png": _roc, "reliability.png": _reliability}
    for name, draw in drawings.items():
        figure = Figure(figsize=(5.2, 5), layout="constrained")
        draw(figure.subplots(), evaluation, graded)
        write_figure(figure, out / name, dpi=DPI)
    return [out / name for name in drawings]


def _confusion(axes: Axes, evaluation: Evaluation, _graded: Labelled) -> None:
    counts = np.array(evaluation.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"
        text = f"{count:,}\n{shares[row, column]:.0%}" if count else "0"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    axes.set(xlabel="grade", ylabel="reference grade", xticks=list(Grade), yticks=list(Grade))
    axes.set_title(
        f"{evaluation.run}: kappa {format_estimate(evaluation.figures['quadratic_weighted_kappa'])}", fontsize=10
    )


def _roc(axes: Axes, evaluation: Evaluation, graded: Labelled) -> None:
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":")
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
            axes.plot(1 - specificity, sensitivity, color=colour, marker="o", markersize=7, markerfacecolor="white")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_title(f"{evaluation.run}: ROC AUC; circles mark the thresholds in use", fontsize=10)
    _add_legend(axes)


def _reliability(axes: Axes, evaluation: Evaluation, graded: Labelled) -> None:
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":")
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
    axes.set_title(f"{evaluation.run}: reliability; the area of a dot is the number of images", fontsize=10)
    _add_legend(axes)


def _add_legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", fontsize=8)
    else:
        axes.text(0.5, 0.5, "needs images on both sides of a cut", ha="center", va="center", color="0.4")
