"""Show an evaluation on the terminal."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from worker.core.vocabulary import Grade
from worker.evaluation.agreement import CUTS
from worker.evaluation.bootstrap import Estimate
from worker.evaluation.document import SUBGROUP_METRICS, Evaluation

SUBGROUP_HEADINGS = {
    "gradable_fraction": "gradable",
    "quadratic_weighted_kappa": "weighted kappa",
    "referable_auc": "referable AUC",
    "referable_sensitivity": "sensitivity",
    "referable_specificity": "specificity",
}
OVERALL_METRICS = ("gradable_fraction", "accuracy", "quadratic_weighted_kappa")


def draw_evaluation(evaluation: Evaluation) -> RenderableType:
    """Return counts, metrics with intervals, the confusion matrix and the subgroups."""
    counts = ", ".join(f"{count:,} {status}" for status, count in sorted(evaluation.by_status.items()))
    patients = "" if evaluation.patients is None else f" (patients: {evaluation.patients:,})"
    head = (
        f"{evaluation.run}: {evaluation.labelled:,} images with a reference grade{patients}: {counts}\n"
        f"{evaluation.model} ({evaluation.model_id})"
    )
    parts: list[RenderableType] = [Text(head), _overall_table(evaluation), "", _cut_table(evaluation), ""]
    parts += [*map(Text, format_auc_loss(evaluation)), "", _grade_table(evaluation), ""]
    for column in dict.fromkeys(group.column for group in evaluation.groups):
        parts += [_subgroup_table(evaluation, column), ""]
    unit = "images" if evaluation.patients is None else "patients"
    parts.append(Text(f"In brackets: 95% intervals from {evaluation.resamples:,} resamples of {unit}.", style="dim"))
    return Group(*parts)


def format_estimate(estimate: Estimate) -> str:
    """Return a text such as `0.912 (0.871 to 0.948)`, or `-` if the metric is undefined."""
    if estimate.value is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def shorten_estimate(estimate: Estimate) -> str:
    """Return a text such as `0.912 (0.87 to 0.95)`, for tables of 80 columns."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return format_estimate(estimate)
    return f"{estimate.value:.3f} ({estimate.low:.2f} to {estimate.high:.2f})"


def stack_estimate(estimate: Estimate) -> Text:
    """Return the value with its interval below, for tables of 80 columns."""
    if estimate.value is None:
        return Text("-")
    if estimate.low is None or estimate.high is None:
        return Text(f"{estimate.value:.3f}")
    return Text.assemble(f"{estimate.value:.3f}\n", (f"{estimate.low:.2f} to {estimate.high:.2f}", "dim"))


def plain_table(*columns: str) -> Table:
    """Return a table without lines, whose numbers align at the right; the first column holds names."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def format_name(name: str) -> str:
    """Return the name of a metric in words."""
    return name.replace("_", " ")


def format_auc_loss(evaluation: Evaluation) -> Iterator[str]:
    """Yield a sentence for each cut: how much AUC the costliest images cost."""
    for cut, images in evaluation.costliest.items():
        auc = evaluation.figures[f"{cut}_auc"].value
        if images and auc is not None:
            lost = sum(image.loss for image in images)
            subject = f"the {len(images)} costliest images account" if len(images) > 1 else "one image accounts"
            yield f"{format_name(cut)} auc: {subject} for {lost:.3f} of 1 - AUC = {1 - auc:.3f}."


def _overall_table(evaluation: Evaluation) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name in OVERALL_METRICS:
        table.add_row(format_name(name), format_estimate(evaluation.figures[name]))
    return table


def _cut_table(evaluation: Evaluation) -> Table:
    table = plain_table("", *(format_name(cut) for cut in CUTS))
    first = next(iter(CUTS))
    for name in evaluation.figures:
        if name.startswith(f"{first}_"):
            metric = name.removeprefix(f"{first}_")
            table.add_row(
                format_name(metric), *(shorten_estimate(evaluation.figures[f"{cut}_{metric}"]) for cut in CUTS)
            )
    return table


def _grade_table(evaluation: Evaluation) -> Table:
    table = plain_table("reference", *(f"as {grade:d}" for grade in Grade), "recall", "precision")
    for grade, row in zip(Grade, evaluation.confusion, strict=True):
        cells = [Text(f"{count:,}", style="bold" if column == grade else "") for column, count in enumerate(row)]
        rates = [stack_estimate(evaluation.figures[f"{name}_grade_{grade:d}"]) for name in ("recall", "precision")]
        table.add_row(str(int(grade)), *cells, *rates)
    return table


def _subgroup_table(evaluation: Evaluation, column: str) -> Table:
    table = plain_table(column, *(SUBGROUP_HEADINGS[name] for name in SUBGROUP_METRICS))
    table.padding = (0, 1, 0, 0)
    table.columns[0].overflow = "fold"
    for group in (group for group in evaluation.groups if group.column == column):
        cells = [stack_estimate(group.figures[name]) for name in SUBGROUP_METRICS]
        table.add_row(f"{group.value or '(none)'}\n{group.images:,} images", *cells)
    return table
