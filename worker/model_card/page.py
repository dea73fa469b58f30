"""Render a model card as a Markdown page."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from worker import __version__
from worker.core.vocabulary import Grade
from worker.evaluation.agreement import CUTS
from worker.evaluation.document import SUBGROUP_METRICS
from worker.evaluation.markdown import render_markdown
from worker.evaluation.plot_style import dark_variant
from worker.evaluation.saliency.pointing_view import PointingGame
from worker.evaluation.view import format_auc_loss, format_name
from worker.model.bundle.ensemble import Ensemble, Model
from worker.model.bundle.fit_record import FitRecord
from worker.model.ordinal import describe_explained_outputs
from worker.model_card.held_out_grading import HeldOutEvaluation

OVERALL_METRICS = ("quadratic_weighted_kappa", "accuracy", "gradable_fraction")
CUT_METRICS = ("auc", "sensitivity", "specificity", "sensitivity_at_specificity_90", "calibration_error")
PREVALENCES = (0.05, 0.20)
"""Shares of referable eyes for which predictive values are given."""
LOW_RECALL = 0.5
"""A grade with a lower recall is listed under the limits."""
OUT_OF_SCOPE = (
    "Decisions about a patient without a qualified reader. This is not a medical device.",
    "Macular oedema: it is not labelled in the training data and is not detected.",
    "Other diseases, such as glaucoma, macular degeneration, occlusions and tumours: they are not detected.",
    "Other pictures: OCT, angiography, photographs of the front of the eye, ultra-wide fields.",
    "A camera or a population on which nobody has measured the model: `fundus accept` does that.",
)
CONTACT = "The maintainers, by an issue in the repository of this project; about security, as SECURITY.md says."
PLOT_WORDS = {
    "confusion": "Grades by reference grade",
    "roc": "ROC curves",
    "reliability": "Predicted against observed frequency",
    "operating-points": "Sensitivity and specificity for referable DR by source, with 95 % intervals",
}
LIMITS = (
    "Reference grades are those of one grader or one panel; some identical photographs have different grades.",
    "Age, sex, ethnicity and camera are not recorded in these data, so metrics of such groups are unknown.",
    "A saliency map shows coarsely which part of the image contributed to the grade. It does not segment lesions.",
)


def render_card(
    model: Model,
    evaluations: Sequence[HeldOutEvaluation],
    pointing: PointingGame | None,
    plots: Mapping[str, Sequence[str]],
    command: str,
    *,
    contact: str = CONTACT,
) -> str:
    """Return the page.

    plots: paths relative to the page of the plots for light pages, by evaluation. command: command line that made the
    card. contact: a sentence that says whom to ask.
    """
    members = model.manifest.members if isinstance(model, Ensemble) else ()
    total_weight = sum(member.weight for member in members)
    return render_markdown(
        "worker.model_card",
        "model_card.md",
        model=model,
        explained=describe_explained_outputs(model.explained_outputs),
        thresholds=", ".join(f"{threshold:g}" for threshold in model.thresholds),
        describe_fit=_describe_fit,
        members=[
            (
                member.manifest.name,
                member.manifest.model_id,
                member.manifest.architecture,
                member.manifest.recipe.input_size_px,
                f"{member.weight / total_weight:.3g}",
                ", ".join(member.views),
            )
            for member in members
        ],
        forward_passes=sum(len(member.views) for member in members),
        out_of_scope=OUT_OF_SCOPE,
        version=__version__,
        contact=contact,
        evaluations=[_describe_evaluation(one) | {"plots": _pair_plots(plots[one.name])} for one in evaluations],
        pointing=pointing,
        pointing_rows=[]
        if pointing is None
        else [
            (name, score.images, score.map, score.centre, score.chance, score.energy)
            for name, score in pointing.scores.items()
        ],
        limits=[*LIMITS, *_list_low_recalls(evaluations), *filter(None, [model.manifest.notes])],
        command=command,
    )


def _pair_plots(plots: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return path on light pages, path on dark pages and description of each plot."""
    return [(plot, dark_variant(plot), PLOT_WORDS[PurePosixPath(plot).stem]) for plot in plots]


def _describe_fit(record: FitRecord) -> list[tuple[str, str]]:
    initial = f"bundle {record.initial_model_id}" if record.initial_model_id else "random"
    scope = "the training sets of all fits" if record.ancestry == "known" else "only the training set of this fit"
    thresholds = {
        None: "0.5",
        "kappa": "highest kappa on the training set",
        "screening": "rule for screening on the validation set",
    }[record.thresholds]
    return [
        ("initial weights", initial),
        *_describe_teacher(record),
        ("training set, by grade", _by_grade(record.training)),
        ("validation set, by grade", _by_grade(record.validation)),
        ("excluded as invalid or ungradable", str(record.left_out)),
        ("`split.csv` lists", f"{scope}; SHA-256 {record.split_sha256}"),
        ("manifest SHA-256", record.manifest_sha256),
        ("epochs, best epoch", f"{record.epochs}, {record.best_epoch} by {record.chosen_by or 'kappa'}"),
        ("thresholds", thresholds),
        ("share of the initial weights", f"{record.initial_share or 0:g}"),
        (
            "seed, batch size, learning rate, weight decay",
            _join(record.seed, record.batch_size, record.learning_rate, record.weight_decay),
        ),
        ("learning rate after the warm-up", record.schedule or "cosine decay to zero"),
        (
            "decay of the weight average, balance of grades, precision",
            _join(record.averaging, record.balance, record.precision),
        ),
        ("libraries", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
    ]


def _describe_teacher(record: FitRecord) -> list[tuple[str, str]]:
    if record.teacher_model_id is None:
        return []
    share = f"with a weight of {record.teacher_share or 0:g} in the targets"
    alone = f", alone on {record.ungraded:,} photographs without a grade" if record.ungraded else ""
    return [("teacher", f"model {record.teacher_model_id}, {share}{alone}")]


def _describe_evaluation(held_out: HeldOutEvaluation) -> dict[str, Any]:
    evaluation = held_out.evaluation
    metrics = evaluation.figures
    names = [*OVERALL_METRICS, *(f"{cut}_{name}" for cut in CUTS for name in CUT_METRICS)]
    return {
        "name": held_out.name,
        "evaluation": evaluation,
        "manifest_sha256": held_out.manifest_sha256,
        "counts": ", ".join(f"{count:,} {status}" for status, count in sorted(evaluation.by_status.items())),
        "independence": _describe_independence(held_out),
        "metric_rows": [(format_name(name), metrics[name]) for name in names],
        "source_header": ("source", "photographs", *map(format_name, SUBGROUP_METRICS)),
        "source_rows": [
            (group.value or "(none)", f"{group.images:,}", *(group.figures[name] for name in SUBGROUP_METRICS))
            for group in evaluation.groups
        ],
        "predictive_values": [
            (
                f"{prevalence:.0%}",
                *_format_predictive_values(
                    prevalence, metrics["referable_sensitivity"].value, metrics["referable_specificity"].value
                ),
            )
            for prevalence in PREVALENCES
        ],
        "auc_losses": list(format_auc_loss(evaluation)),
        "grade_header": ("reference", *(f"as {grade:d}" for grade in Grade), "recall", "precision"),
        "grade_rows": [
            (f"{grade:d}", *counts, metrics[f"recall_grade_{grade:d}"], metrics[f"precision_grade_{grade:d}"])
            for grade, counts in zip(Grade, evaluation.confusion, strict=True)
        ],
    }


def _format_predictive_values(
    prevalence: float, sensitivity: float | None, specificity: float | None
) -> tuple[str, str]:
    """Return the positive and the negative predictive value by Bayes' theorem, `-` if undefined."""
    if sensitivity is None or specificity is None:
        return "-", "-"
    true_positive, false_positive = prevalence * sensitivity, (1 - prevalence) * (1 - specificity)
    true_negative, false_negative = (1 - prevalence) * specificity, prevalence * (1 - sensitivity)
    positive, negative = true_positive + false_positive, true_negative + false_negative
    return (
        f"{true_positive / positive:.3f}" if positive else "-",
        f"{true_negative / negative:.3f}" if negative else "-",
    )


def _describe_independence(held_out: HeldOutEvaluation) -> str:
    if held_out.excluded_as_trained is None:
        return (
            "**It is unknown whether the weights were trained on these photographs; if they were, the metrics are not"
            " valid.** Compare this data set with the training set above."
        )
    count = held_out.excluded_as_trained
    excluded = f" ({count:,} other photographs of the manifest are in it and are excluded)" if count else ""
    return f"No pixel hash of these photographs is in the training part of `split.csv`{excluded}."


def _list_low_recalls(evaluations: Sequence[HeldOutEvaluation]) -> Iterator[str]:
    for held_out in evaluations:
        recalls = {grade: held_out.evaluation.figures[f"recall_grade_{grade:d}"].value for grade in Grade}
        low = [
            f"{grade:d} ({recall:.2f})"
            for grade, recall in recalls.items()
            if recall is not None and recall < LOW_RECALL
        ]
        if low:
            yield f"{held_out.name}: recall is below {LOW_RECALL:g} for grade {', '.join(low)}."


def _by_grade(counts: Sequence[int]) -> str:
    return f"{sum(counts):,}: {' / '.join(f'{count:,}' for count in counts)}"


def _join(*values: object) -> str:
    return ", ".join(map(str, values))
