"""Evaluate whether a model is good enough for a site, on labelled photographs of that site."""

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.text import Text

from worker.core.errors import RunError
from worker.core.vocabulary import REFERABLE_FROM, RunState
from worker.evaluation.bootstrap import Estimate
from worker.evaluation.json_document import JsonDocument
from worker.evaluation.labelled import NOT_GRADED, GradedRun, Labelled
from worker.evaluation.proportions import exact_interval
from worker.evaluation.view import format_estimate, plain_table

MIN_PHOTOGRAPHS = 100
"""Least number of photographs with an outcome and a reference grade."""


class Figure(JsonDocument):
    """A metric with the ends of its 95 % interval and the least value that `low` must have.

    correct: number of photographs that are called as the reference grade says, of `images` of `patients`; every
    photograph without a patient id counts as a patient.
    """

    value: float
    low: float
    high: float
    correct: int
    images: int
    patients: int
    required: float

    @property
    def is_met(self) -> bool:
        """Whether the lower end of the interval is good enough."""
        return self.low >= self.required


class SiteEvaluation(JsonDocument):
    """Referable or not on the photographs of a site. An ungradable one counts as referred, because a person sees it.

    images: photographs with an outcome and a reference grade, `ungradable` of them without a grade. left_out: labelled
    ones that failed. threshold_rule: how the thresholds of the model were chosen, if the bundle says it.
    """

    site: str
    run: str
    model: str
    model_id: str
    threshold_rule: str | None
    images: int
    ungradable: int
    left_out: int
    figures: dict[str, Figure]
    accepted: bool


def evaluate_for_site(
    site: str, run: GradedRun, images: Labelled, *, sensitivity: float, specificity: float
) -> SiteEvaluation:
    """Compare the lower ends of sensitivity and specificity of referable DR with those required, both in (0, 1).

    Raises RunError for a run that is not finished, fewer than MIN_PHOTOGRAPHS photographs, and none or only referable
    ones.
    """
    if run.state != RunState.FINISHED:
        raise RunError(f"run {run.name} is {run.state}; fix: wait until it is finished")
    assessed = images.assessed
    count = len(assessed.ids)
    if count < MIN_PHOTOGRAPHS:
        raise RunError(
            f"run {run.name} has {count} photographs with an outcome and a reference grade,"
            f" {MIN_PHOTOGRAPHS} are needed; fix: enqueue {MIN_PHOTOGRAPHS - count} or more into it with --labels"
        )
    truth = assessed.reference >= REFERABLE_FROM
    if truth.all() or not truth.any():
        raise RunError(
            f"run {run.name} has {int(truth.sum())} referable photographs of {count}; fix: add eyes with and without"
            " referable DR of the site"
        )
    referred = (assessed.grades >= REFERABLE_FROM) | (assessed.grades == NOT_GRADED)
    figures = {
        "sensitivity": _measure(referred[truth], assessed.clusters[truth], sensitivity),
        "specificity": _measure(~referred[~truth], assessed.clusters[~truth], specificity),
    }
    return SiteEvaluation(
        site=site,
        run=run.name,
        model=run.model_name,
        model_id=run.model_id,
        threshold_rule=run.manifest.get("threshold_rule"),
        images=count,
        ungradable=int((assessed.grades == NOT_GRADED).sum()),
        left_out=len(images.ids) - count,
        figures=figures,
        accepted=all(figure.is_met for figure in figures.values()),
    )


def draw_site_evaluation(evaluation: SiteEvaluation) -> RenderableType:
    """Return the verdict, the figures next to those required, and what they were measured on."""
    verdict = "accepted" if evaluation.accepted else "refused"
    table = plain_table("referable DR", "with 95 % interval", "correct", "patients", "must be above", "")
    for name, figure in evaluation.figures.items():
        table.add_row(
            name,
            format_estimate(Estimate(figure.value, figure.low, figure.high)),
            f"{figure.correct:,} of {figure.images:,}",
            f"{figure.patients:,}",
            f"{figure.required:g}",
            "met" if figure.is_met else "not met",
        )
    notes = [
        f"{evaluation.images:,} photographs with a reference grade; {evaluation.ungradable:,} ungradable ones count as"
        f" referred, {evaluation.left_out:,} failed ones are left out."
    ]
    if evaluation.threshold_rule is not None:
        notes.append(f"Thresholds: {evaluation.threshold_rule}.")
    return Group(
        Text.assemble(
            f"{evaluation.site}: {evaluation.model} ({evaluation.model_id}) ",
            (verdict, "bold green" if evaluation.accepted else "bold red"),
            f" on run {evaluation.run}",
        ),
        table,
        *(Text(note, style="dim") for note in notes),
    )


def _measure(correct: NDArray[np.bool_], clusters: NDArray[np.int64], required: float) -> Figure:
    return Figure.model_validate(
        asdict(exact_interval(correct, clusters))
        | {
            "correct": int(correct.sum()),
            "images": len(correct),
            "patients": len(np.unique(clusters)),
            "required": required,
        }
    )
