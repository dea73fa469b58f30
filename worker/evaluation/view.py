"""An evaluation and a comparison on the terminal."""

from collections.abc import Iterator

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from worker.core.vocabulary import Grade
from worker.evaluation.agreement import CUTS
from worker.evaluation.bootstrap import Estimate
from worker.evaluation.document import SUBGROUP_METRICS, Evaluation

WHOLE = ("gradable_fraction", "accuracy", "quadratic_weighted_kappa")


def draw_evaluation(evaluation: Evaluation) -> RenderableType:
    """Counts, figures with their intervals, the confusion matrix and the subgroups."""
    counts = ", ".join(f"{count:,} {status}" for status, count in sorted(evaluation.by_status.items()))
    patients = "" if evaluation.patients is None else f" (patients: {evaluation.patients:,})"
    head = (
        f"{evaluation.run}: {evaluation.labelled:,} images with a reference grade{patients}: {counts}\n"
        f"{evaluation.model} ({evaluation.model_id})"
    )
    parts: list[RenderableType] = [Text(head), _whole(evaluation), _cuts(evaluation)]
    parts += [*map(Text, format_auc_loss(evaluation)), _grades(evaluation)]
    if evaluation.groups:
        parts.append(_groups(evaluation))
    drawn = "images" if evaluation.patients is None else "patients"
    parts.append(Text(f"In brackets: 95% intervals from {evaluation.resamples:,} resamples of {drawn}.", style="dim"))
    return Stack(*parts)


def format_estimate(figure: Estimate) -> str:
    """`0.912 (0.871 to 0.948)`, or `-` where the images cannot tell."""
    if figure.value is None:
        return "-"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def format_name(name: str) -> str:
    """A figure's name in words."""
    return name.replace("_", " ")


def format_auc_loss(evaluation: Evaluation) -> Iterator[str]:
    """For each cut, what a few images have cost of its area."""
    for cut, images in evaluation.costliest.items():
        area = evaluation.figures[f"{cut}_auc"].value
        if images and area is not None:
            few = f"{len(images)} images cost" if len(images) > 1 else "one image costs"
            lost = sum(image.loss for image in images)
            yield f"{format_name(cut)} auc: {few} {lost:.3f} of the {1 - area:.3f} by which it is short of 1."


def _whole(evaluation: Evaluation) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name in WHOLE:
        table.add_row(format_name(name), format_estimate(evaluation.figures[name]))
    return table


def _cuts(evaluation: Evaluation) -> Table:
    table = Table("", *(format_name(cut) for cut in CUTS))
    first = next(iter(CUTS))
    for name in evaluation.figures:
        if name.startswith(f"{first}_"):
            figure = name.removeprefix(f"{first}_")
            table.add_row(
                format_name(figure), *(format_estimate(evaluation.figures[f"{cut}_{figure}"]) for cut in CUTS)
            )
    return table


def _grades(evaluation: Evaluation) -> Table:
    table = Table("reference")
    for grade in Grade:
        table.add_column(f"as {grade:d}", justify="right")
    for name in ("recall", "precision"):
        table.add_column(name, no_wrap=True)
    for grade, row in zip(Grade, evaluation.confusion, strict=True):
        cells = [Text(f"{count:,}", style="bold" if column == grade else "") for column, count in enumerate(row)]
        told = [format_estimate(evaluation.figures[f"{name}_grade_{grade:d}"]) for name in ("recall", "precision")]
        table.add_row(str(int(grade)), *cells, *told)
    return table


def _groups(evaluation: Evaluation) -> Table:
    table = Table(title="Subgroups", title_justify="left")
    for name in ("column", "value", "images", *map(format_name, SUBGROUP_METRICS)):
        table.add_column(name, justify="left" if name in ("column", "value") else "right")
    for group in evaluation.groups:
        told = [format_estimate(group.figures[name]) for name in SUBGROUP_METRICS]
        table.add_row(group.column, group.value or "(none)", f"{group.images:,}", *told)
    return table
