"""Calibrate a model on labelled images and report the metrics before and after."""

from collections.abc import Callable

from pydantic import Field
from rich.console import Group, RenderableType
from rich.text import Text

from worker.core.vocabulary import Grade
from worker.evaluation.agreement import CUTS
from worker.evaluation.bootstrap import Estimate, bootstrap_metrics
from worker.evaluation.json_document import JsonDocument
from worker.evaluation.labelled import NOT_GRADED, GradedRun, Labelled
from worker.evaluation.operating_point import (
    FOLDS,
    Target,
    apply_operating_point,
    choose_operating_point,
    cross_entropy,
    cross_fit,
)
from worker.evaluation.view import format_name, plain_table, stack_estimate
from worker.model.ordinal import Thresholds

SHOWN_METRICS = (
    *(f"{cut}_{metric}" for cut in CUTS for metric in ("sensitivity", "specificity", "calibration_error")),
    *(f"recall_grade_{grade:d}" for grade in Grade),
    "quadratic_weighted_kappa",
    "accuracy",
)


class Calibration(JsonDocument):
    """An operating point and its metrics.

    graded_by: model_id of the run. temperature: relative to that model's temperature. before, after: metrics on the
    images that the point was fitted to. held_out: cross-validated metrics, the expectation for new images from the same
    cameras.
    """

    run: str
    graded_by: str
    images: int
    target: str = Field(serialization_alias="wanted")
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
    target: Target,
    *,
    resamples: int,
    seed: int,
    on_progress: Callable[[], object],
) -> Calibration:
    """Choose an operating point and estimate its metrics.

    thresholds: those in use. on_progress: called after each resample. Raises UsageError as `choose_operating_point`.
    """
    graded = images.select(images.grades != NOT_GRADED)
    point = choose_operating_point(graded, thresholds, target)
    variants = {
        "before": graded,
        "after": apply_operating_point(graded, point),
        "held_out": cross_fit(graded, thresholds, target),
    }
    metrics = {
        name: bootstrap_metrics(variant, resamples=resamples, seed=seed, on_progress=on_progress)
        for name, variant in variants.items()
    }
    return Calibration(
        run=run.name,
        graded_by=run.model_id,
        images=len(graded.ids),
        target=describe_target(target),
        temperature=point.temperature,
        thresholds=point.thresholds,
        cross_entropy={
            name: cross_entropy(variant.probabilities, variant.reference) for name, variant in variants.items()
        },
        resamples=resamples,
        seed=seed,
        **{name: {key: metrics[name][key] for key in SHOWN_METRICS} for name in metrics},
    )


def describe_target(target: Target) -> str:
    """Return a text such as `sensitivity 0.9 for grade 2 or worse`."""
    cuts = " and ".join(f"grade {cut:d} or worse" for cut in sorted(target.cuts))
    return f"{target.metric} {target.value:g} for {cuts}"


def draw_calibration(calibration: Calibration) -> RenderableType:
    """Return the operating point and a table of the metrics before and after."""
    table = plain_table("", "before", "after", f"held out ({FOLDS} folds)")
    for name in SHOWN_METRICS:
        table.add_row(
            format_name(name),
            *(
                stack_estimate(variant[name])
                for variant in (calibration.before, calibration.after, calibration.held_out)
            ),
        )
    entropies = (calibration.cross_entropy[name] for name in ("before", "after", "held_out"))
    table.add_row("cross-entropy", *(f"{value:.4f}" for value in entropies))
    thresholds = ", ".join(f"{calibration.thresholds[grade]:.3f}" for grade in Grade)
    head = (
        f"{calibration.run}: {calibration.target}, on {calibration.images:,} graded images\n"
        f"temperature {calibration.temperature:.3f}, thresholds {thresholds}"
    )
    foot = (
        f"In brackets: 95% intervals from {calibration.resamples:,} resamples."
        " After: on the images used for the calibration."
    )
    return Group(Text(head), table, Text(foot, style="dim"))
