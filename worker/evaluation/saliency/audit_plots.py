"""An audit in six plots on one picture."""

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from worker.evaluation.bootstrap import Estimate
from worker.evaluation.saliency.audit_document import SaliencyAudit

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "0.6"
"""Of the palette of Okabe and Ito (2008), which the colour-blind can tell apart."""
ORDER_STYLES = {"map": (BLUE, "-"), "centre": (ORANGE, "--"), "random": (GREY, ":")}
DPI = 130


def draw_audit(audit: SaliencyAudit) -> bytes:
    """A PNG; plots of what a quick audit leaves out are not there."""
    whole = audit.erasing is not None and audit.turned
    picture = Figure(figsize=(14, 8.4 if whole else 4.4), layout="constrained")
    axes = picture.subplots(2, 3) if whole else picture.subplots(1, 2)
    places = list(axes.flat)
    _pointing(places[0], audit)
    _energy(places[1], audit)
    if whole:
        _erasing(places[2], audit, "deletion", "pixels blurred")
        _erasing(places[5], audit, "insertion", "pixels brought back")
        _redrawn(places[3], audit)
        _turned(places[4], audit)
    buffer = io.BytesIO()
    picture.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def _pointing(axes: Axes, audit: SaliencyAudit) -> None:
    scores = {"all": audit.game.whole} | {f"grade {grade}": one for grade, one in audit.game.by_grade.items()}
    control = {"all": audit.control.whole} | {f"grade {grade}": one for grade, one in audit.control.by_grade.items()}
    bars = {
        "the model's map": (BLUE, [one.map for one in scores.values()]),
        "the field's centre": (ORANGE, [one.centre for one in scores.values()]),
        "models that learnt nothing": (GREEN, [control[name].map for name in scores]),
        "a place at random": (GREY, [one.chance for one in scores.values()]),
    }
    for place, (label, (colour, figures)) in enumerate(bars.items()):
        _bars(axes, [row + 0.2 * (place - 1.5) for row in range(len(scores))], figures, 0.19, colour, label)
    labels = [f"{name}\n({one.images})" for name, one in scores.items()]
    axes.set(xticks=range(len(scores)), xticklabels=labels, ylim=(0, 1.25), ylabel="share of photographs")
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.set_title("Is the brightest place on a lesion?", fontsize=11)
    axes.legend(fontsize=8, ncols=2, loc="upper center")


def _energy(axes: Axes, audit: SaliencyAudit) -> None:
    whole, control = audit.game.whole, audit.control.whole
    inside = {
        "model": (BLUE, whole.energy),
        "centre": (ORANGE, whole.centre_energy),
        "learnt\nnothing": (GREEN, control.energy),
        "even\nmap": (GREY, whole.chance),
    }
    outside = {
        "model ": (BLUE, whole.outside),
        "learnt\nnothing ": (GREEN, control.outside),
        "even\nmap ": (GREY, whole.outside_area),
    }
    for place, (colour, figure) in enumerate([*inside.values(), *outside.values()]):
        _bars(axes, [place + (place >= len(inside)) * 0.6], [figure], 0.7, colour, None)
    ticks = [place + (place >= len(inside)) * 0.6 for place in range(len(inside) + len(outside))]
    axes.set(xticks=ticks, xticklabels=[*inside, *outside], ylim=(0, None), ylabel="share of the map's energy")
    axes.axvline(len(inside) - 0.2, color="0.8", linewidth=1)
    axes.set_title("On lesions (left), and beyond the field (right)", fontsize=11)


def _erasing(axes: Axes, audit: SaliencyAudit, kind: str, label: str) -> None:
    if audit.erasing is None:
        return
    for order, curves in audit.erasing.orders.items():
        colour, style = ORDER_STYLES[order]
        means, area = getattr(curves, kind), getattr(curves, f"{kind}_area").value
        name = {"map": "map", "centre": "from the centre", "random": "at random"}[order]
        axes.plot(audit.erasing.shares, means, color=colour, linestyle=style, marker=".", label=f"{name}: {area:.3f}")
    axes.set(xlabel=f"share of {label}", ylabel="probability of the explained output", ylim=(0, 1), xlim=(0, 1))
    axes.set_title(f"{kind.capitalize()}, and the area under the curve", fontsize=11)
    axes.legend(fontsize=8)


def _redrawn(axes: Axes, audit: SaliencyAudit) -> None:
    names = list(audit.redrawn)
    _whiskers(axes, list(range(len(names))), list(audit.redrawn.values()), BLUE, "layers redrawn, from the last")
    _other(axes, audit)
    axes.set(xticks=range(len(names)), ylim=(-0.3, 1.05), ylabel="rank correlation with the map as it was")
    axes.set_xticklabels(names, rotation=20, ha="right", fontsize=9)
    axes.set_title("Does the map hang on what was learnt?", fontsize=11)
    axes.legend(fontsize=8)


def _turned(axes: Axes, audit: SaliencyAudit) -> None:
    angles = [one.degrees for one in audit.turned]
    _whiskers(axes, angles, [one.likeness for one in audit.turned], BLUE, "map turned back: rank correlation")
    same = [one.same_grade for one in audit.turned]
    _whiskers(axes, angles, same, ORANGE, "same grade: share of photographs")
    _other(axes, audit)
    axes.set(xlabel="degrees", xticks=angles, ylim=(-0.3, 1.05))
    axes.set_title("Does the map turn with the photograph?", fontsize=11)
    axes.legend(fontsize=8, loc="lower right")


def _other(axes: Axes, audit: SaliencyAudit) -> None:
    if audit.others.value is not None:
        axes.axhline(audit.others.value, color=GREY, linestyle=":", label="another photograph's map")


def _bars(
    axes: Axes, places: Sequence[float], figures: Sequence[Estimate], width: float, colour: str, label: str | None
) -> None:
    values = [figure.value or 0.0 for figure in figures]
    axes.bar(places, values, width, color=colour, label=label)
    axes.errorbar(places, values, _reach(figures), fmt="none", ecolor="black", elinewidth=0.8, capsize=2)


def _whiskers(axes: Axes, places: Sequence[float], figures: Sequence[Estimate], colour: str, label: str) -> None:
    values = [figure.value or 0.0 for figure in figures]
    axes.errorbar(places, values, _reach(figures), color=colour, marker="o", markersize=4, capsize=2, label=label)


def _reach(figures: Sequence[Estimate]) -> tuple[list[float], list[float]]:
    """From the values down and up to the ends of their intervals."""
    told = [(one.value or 0.0, one.low, one.high) for one in figures]
    down = [max(value - (value if low is None else low), 0.0) for value, low, _ in told]
    up = [max((value if high is None else high) - value, 0.0) for value, _, high in told]
    return down, up
