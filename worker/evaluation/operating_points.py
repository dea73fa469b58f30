"""Plot the operating points of a model: sensitivity and specificity on each source."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from worker.evaluation.bootstrap import Estimate
from worker.evaluation.document import Evaluation, Subgroup
from worker.evaluation.palette import BLUE, GREEN, GREY, ORANGE, VERMILION

SOURCE_COLUMN = "source"
MARKERS = "osD^vPX*"
LEAST = 0.5
"""Lower end of both axes, unless a point lies below."""


def has_sources(evaluation: Evaluation) -> bool:
    """Whether the images come from several sources."""
    return any(group.column == SOURCE_COLUMN for group in evaluation.groups)


def draw_operating_points(figure: Figure, evaluation: Evaluation) -> None:
    """Draw one point with 95 % intervals for each source, and one for all images. The legend counts graded ones."""
    axes = figure.subplots()
    points = [
        (f"{group.value or '(none)'}, {_count_graded(group):,}", group.figures)
        for group in evaluation.groups
        if group.column == SOURCE_COLUMN
    ]
    points.append((f"all, {sum(map(sum, evaluation.confusion)):,}", evaluation.figures))
    colours = (BLUE, VERMILION, GREEN, ORANGE)
    lowest = LEAST
    for place, (label, figures) in enumerate(points):
        sensitivity, specificity = figures["referable_sensitivity"], figures["referable_specificity"]
        colour = GREY if place == len(points) - 1 else colours[place % len(colours)]
        _point(axes, sensitivity, specificity, colour, MARKERS[place % len(MARKERS)], label)
        lowest = min([lowest, *(end for end in (sensitivity.low, specificity.low) if end is not None)])
    axes.set(
        xlabel="specificity: not referable and not referred",
        ylabel="sensitivity: referable and referred",
        xlim=(lowest - 0.02, 1.01),
        ylim=(lowest - 0.02, 1.01),
        aspect="equal",
    )
    axes.set_title("Referable DR at the thresholds in use, by source")
    axes.legend(loc="lower left", title="source, graded photographs", alignment="left")


def _count_graded(group: Subgroup) -> int:
    return round(group.images * (group.figures["gradable_fraction"].value or 0.0))


def _point(axes: Axes, sensitivity: Estimate, specificity: Estimate, colour: str, marker: str, label: str) -> None:
    if sensitivity.value is None or specificity.value is None:
        return
    axes.errorbar(
        specificity.value,
        sensitivity.value,
        xerr=_arms(specificity),
        yerr=_arms(sensitivity),
        color=colour,
        marker=marker,
        markersize=8,
        elinewidth=1.2,
        linestyle="none",
        label=label,
    )


def _arms(estimate: Estimate) -> list[list[float]]:
    value = estimate.value or 0.0
    low, high = (value if end is None else end for end in (estimate.low, estimate.high))
    return [[max(value - low, 0.0)], [max(high - value, 0.0)]]
