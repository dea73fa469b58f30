"""What `fundus model calibrate` finds, before and after, as one document for programs and for people."""

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict
from rich.console import Group as Stack
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from worker.core.vocabulary import Grade
from worker.evaluation.agreement import CUTS
from worker.evaluation.bootstrap import Estimate, bootstrap_metrics
from worker.evaluation.labelled import NOT_GRADED, GradedRun, Labelled
from worker.evaluation.operating_point import (
    FOLDS,
    Target,
    apply_operating_point,
    choose_operating_point,
    cross_entropy,
    cross_fit,
)
from worker.evaluation.view import format_estimate, format_name
from worker.model.ordinal import Thresholds

SHOWN = (
    *(f"{cut}_{figure}" for cut in CUTS for figure in ("sensitivity", "specificity", "calibration_error")),
    *(f"recall_grade_{grade:d}" for grade in Grade),
    "quadratic_weighted_kappa",
    "accuracy",
)


class Calibration(BaseModel):
    """An operating point and what it does.

    graded_by: the run's model_id. temperature: on top of that model's own. before, after: on the images that chose it.
    held_out: each fifth of them at the point that the other four chose, which is what to expect of new images from the
    same cameras.
    """

    model_config = ConfigDict(frozen=True)

    run: str
    graded_by: str
    images: int
    wanted: str
    temperature: float
    thresholds: Thresholds
    cross_entropy: dict[str, float]
    before: dict[str, Estimate]
    after: dict[str, Estimate]
    held_out: dict[str, Estimate]
    resamples: int
    seed: int


def calibrate(
    run: GradedRun,
    images: Labelled,
    thresholds: Thresholds,
    wanted: Target,
    *,
    resamples: int,
    seed: int,
    on_progress: Callable[[], object],
) -> Calibration:
    """Choose the point and measure it; `on_progress` is called after each resample.

    Raises UsageError where none is found.
    """
    graded = images.select(images.grades != NOT_GRADED)
    point = choose_operating_point(graded, thresholds, wanted)
    states = {
        "before": graded,
        "after": apply_operating_point(graded, point),
        "held_out": cross_fit(graded, thresholds, wanted),
    }
    figures = {
        name: bootstrap_metrics(state, resamples=resamples, seed=seed, on_progress=on_progress)
        for name, state in states.items()
    }
    return Calibration(
        run=run.name,
        graded_by=run.model_id,
        images=len(graded.ids),
        wanted=describe_target(wanted),
        temperature=point.temperature,
        thresholds=point.thresholds,
        cross_entropy={name: cross_entropy(state.probabilities, state.reference) for name, state in states.items()},
        resamples=resamples,
        seed=seed,
        **{name: {key: figures[name][key] for key in SHOWN} for name in figures},
    )


def describe_target(wanted: Target) -> str:
    """`sensitivity 0.9 for grade 2 or worse`."""
    cuts = " and ".join(f"grade {cut:d} or worse" for cut in sorted(wanted.cuts))
    return f"{wanted.figure} {wanted.value:g} for {cuts}"


def draw_calibration(found: Calibration) -> RenderableType:
    """The point, and the figures before and after."""
    table = Table("", "before", "after", f"held out ({FOLDS} folds)")
    for name in SHOWN:
        table.add_row(
            format_name(name), *(format_estimate(state[name]) for state in (found.before, found.after, found.held_out))
        )
    entropies = (found.cross_entropy[name] for name in ("before", "after", "held_out"))
    table.add_row("cross-entropy", *(f"{value:.4f}" for value in entropies))
    thresholds = ", ".join(f"{found.thresholds[grade]:.3f}" for grade in Grade)
    head = (
        f"{found.run}: {found.wanted}, on {found.images:,} graded images\n"
        f"temperature {found.temperature:.3f}, thresholds {thresholds}"
    )
    foot = f"In brackets: 95% intervals from {found.resamples:,} resamples. After: on the images that chose the point."
    return Stack(Text(head), table, Text(foot, style="dim"))
