"""Plot the learning curves of a fit: loss, agreement and recall of each grade by epoch."""

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from worker.core.vocabulary import Grade
from worker.evaluation.palette import BLUE, GRADE_COLOURS, GREY, VERMILION
from worker.evaluation.plot_style import house_style

DPI = 130


def draw_curves(history: Sequence[dict[str, Any]], best_epoch: int) -> bytes:
    """Return a PNG with three panels and a line at the best epoch. history: metrics of each epoch, at least one."""
    with house_style():
        return _draw(history, best_epoch)


def _draw(history: Sequence[dict[str, Any]], best_epoch: int) -> bytes:
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    loss, agreement, recall = figure.subplots(1, 3)
    _curve(loss, history, "loss", BLUE, "training, augmented")
    _curve(loss, history, "validation_loss", VERMILION, "validation")
    loss.set(ylabel="cross-entropy of the five outputs", ylim=(0, None))
    _curve(agreement, history, "quadratic_weighted_kappa", BLUE, "quadratic weighted kappa")
    _curve(agreement, history, "referable_auc", VERMILION, "ROC AUC, referable")
    agreement.set(ylim=(0, 1))
    for grade, colour in zip(Grade, GRADE_COLOURS, strict=True):
        _curve(recall, history, f"recall_grade_{grade:d}", colour, f"recall of grade {grade:d}")
    recall.set(ylim=(-0.02, 1.02))
    for axes in (loss, agreement, recall):
        axes.axvline(best_epoch, color=GREY, linewidth=1, linestyle=":")
        axes.set(xlabel="epoch (dotted: best)")
        axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def _curve(axes: Axes, history: Sequence[dict[str, Any]], name: str, colour: str, label: str) -> None:
    points = [(row["epoch"], row[name]) for row in history if row.get(name) is not None]
    axes.plot(*zip(*points, strict=True), color=colour, label=label, marker="." if len(points) < 40 else None)
