"""Plot a saliency audit on one page."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from worker.evaluation.bootstrap import Estimate
from worker.evaluation.palette import BLUE, GREEN, GREY, VERMILION
from worker.evaluation.plot_style import write_plot
from worker.evaluation.saliency.audit_document import ORDER_NAMES, SaliencyAudit

ORDER_STYLES = {"map": (BLUE, "-"), "centre": (VERMILION, "--"), "random": (GREY, ":")}


def draw_audit(audit: SaliencyAudit, file: Path) -> None:
    """Write a PNG with six plots, or two for a quick audit, and its variant for dark pages."""
    write_plot(file, (14, 8.4 if _is_complete(audit) else 4.4), lambda figure: _draw(figure, audit))


def _is_complete(audit: SaliencyAudit) -> bool:
    return audit.deletion_insertion is not None and bool(audit.rotation)


def _draw(figure: Figure, audit: SaliencyAudit) -> None:
    complete = _is_complete(audit)
    axes = figure.subplots(2, 3) if complete else figure.subplots(1, 2)
    places = list(axes.flat)
    _pointing(places[0], audit)
    _energy(places[1], audit)
    if complete:
        _perturbation(places[2], audit, "deletion", "pixels blurred")
        _perturbation(places[5], audit, "insertion", "pixels restored")
        _randomisation(places[3], audit)
        _rotation(places[4], audit)


def _pointing(axes: Axes, audit: SaliencyAudit) -> None:
    scores, control = audit.game.scores, audit.control.scores
    bars = {
        "model": (BLUE, [one.map for one in scores.values()]),
        "centre of the field": (VERMILION, [one.centre for one in scores.values()]),
        "randomised models": (GREEN, [control[name].map for name in scores]),
        "random position": (GREY, [one.chance for one in scores.values()]),
    }
    for place, (label, (colour, estimates)) in enumerate(bars.items()):
        _bars(axes, [row + 0.2 * (place - 1.5) for row in range(len(scores))], estimates, 0.19, colour, label)
    labels = [f"{name}\n({one.images})" for name, one in scores.items()]
    axes.set(xticks=range(len(scores)), xticklabels=labels, ylim=(0, 1.25), ylabel="share of photographs")
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.set_title("Maximum of the map on a lesion")
    axes.legend(ncols=2, loc="upper center")


def _energy(axes: Axes, audit: SaliencyAudit) -> None:
    whole, control = audit.game.whole, audit.control.whole
    inside = {
        "model": (BLUE, whole.energy),
        "centre": (VERMILION, whole.centre_energy),
        "random\nweights": (GREEN, control.energy),
        "uniform\nmap": (GREY, whole.chance),
    }
    outside = {
        "model ": (BLUE, whole.outside),
        "random\nweights ": (GREEN, control.outside),
        "uniform\nmap ": (GREY, whole.outside_area),
    }
    for place, (colour, figure) in enumerate([*inside.values(), *outside.values()]):
        _bars(axes, [place + (place >= len(inside)) * 0.6], [figure], 0.7, colour, None)
    ticks = [place + (place >= len(inside)) * 0.6 for place in range(len(inside) + len(outside))]
    axes.set(xticks=ticks, xticklabels=[*inside, *outside], ylim=(0, None), ylabel="share of the map's energy")
    axes.tick_params(axis="x", labelsize=8)
    axes.axvline(len(inside) - 0.2, color=mpl.rcParams["grid.color"], linewidth=1)
    axes.set_title("Energy on lesions, and outside the field")


def _perturbation(axes: Axes, audit: SaliencyAudit, kind: str, label: str) -> None:
    if audit.deletion_insertion is None:
        return
    for order, curves in audit.deletion_insertion.orders.items():
        colour, style = ORDER_STYLES[order]
        means, area = getattr(curves, kind), getattr(curves, f"{kind}_area").value
        name = f"{ORDER_NAMES[order]}: {area:.3f}"
        axes.plot(audit.deletion_insertion.shares, means, color=colour, linestyle=style, marker=".", label=name)
    axes.set(xlabel=f"share of {label}", ylabel="probability of the explained output", ylim=(0, 1), xlim=(0, 1))
    axes.set_title(f"{kind.capitalize()} with the area under the curve")
    axes.legend()


def _randomisation(axes: Axes, audit: SaliencyAudit) -> None:
    names = list(audit.weight_randomisation)
    _whiskers(
        axes,
        list(range(len(names))),
        list(audit.weight_randomisation.values()),
        BLUE,
        "randomised layers, from the last",
    )
    _other_images(axes, audit)
    axes.set(xticks=range(len(names)), ylim=(-0.3, 1.05), ylabel="rank correlation with the original map")
    axes.set_xticklabels(names, rotation=20, ha="right", fontsize=9)
    axes.set_title("Weight randomisation")
    axes.legend()


def _rotation(axes: Axes, audit: SaliencyAudit) -> None:
    angles = [one.degrees for one in audit.rotation]
    _whiskers(axes, angles, [one.rank_correlation for one in audit.rotation], BLUE, "rank correlation of the maps")
    same = [one.same_grade for one in audit.rotation]
    _whiskers(axes, angles, same, VERMILION, "share of photographs with the same grade")
    _other_images(axes, audit)
    axes.set(xlabel="degrees", xticks=angles, ylim=(-0.3, 1.05))
    axes.set_title("Rotation stability")
    axes.legend(loc="lower right")


def _other_images(axes: Axes, audit: SaliencyAudit) -> None:
    if audit.other_images.value is not None:
        axes.axhline(audit.other_images.value, color=GREY, linestyle=":", label="maps of different photographs")


def _bars(
    axes: Axes, places: Sequence[float], estimates: Sequence[Estimate], width: float, colour: str, label: str | None
) -> None:
    values = [estimate.value or 0.0 for estimate in estimates]
    axes.bar(places, values, width, color=colour, label=label)
    axes.errorbar(
        places, values, _error_bars(estimates), fmt="none", ecolor=mpl.rcParams["text.color"], elinewidth=0.8, capsize=2
    )


def _whiskers(axes: Axes, places: Sequence[float], estimates: Sequence[Estimate], colour: str, label: str) -> None:
    values = [estimate.value or 0.0 for estimate in estimates]
    axes.errorbar(
        places, values, _error_bars(estimates), color=colour, marker="o", markersize=4, capsize=2, label=label
    )


def _error_bars(estimates: Sequence[Estimate]) -> tuple[list[float], list[float]]:
    """Return the distances from the values to the lower and upper ends of their intervals."""
    intervals = [(one.value or 0.0, one.low, one.high) for one in estimates]
    down = [max(value - (value if low is None else low), 0.0) for value, low, _ in intervals]
    up = [max((value if high is None else high) - value, 0.0) for value, _, high in intervals]
    return down, up
