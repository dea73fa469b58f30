"""A comparison on the terminal."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from worker.core.vocabulary import Grade
from worker.evaluation.comparison import Change, Comparison

SHOWN = 20


def draw_comparison(comparison: Comparison) -> RenderableType:
    """What is the same, what is not, and who is right more often."""
    it = comparison
    kappa = "-" if it.quadratic_weighted_kappa is None else f"{it.quadratic_weighted_kappa:.3f}"
    lines = [
        f"{it.first} and {it.second}: {it.common:,} images in common,"
        f" {it.same:,} the same ({it.same / it.common:.1%}), quadratic weighted kappa {kappa}",
    ]
    if it.only_in_first or it.only_in_second:
        lines.append(
            f"not compared: {it.only_in_first:,} only in {it.first}, {it.only_in_second:,} only in {it.second}"
        )
    if it.labelled:
        chance = "" if it.mcnemar_p is None else f" (McNemar, exact: p = {it.mcnemar_p:.3g})"
        lines.append(
            f"referable or not, of {it.labelled:,} with a reference grade: {it.only_first_right:,} right only in"
            f" {it.first}, {it.only_second_right:,} only in {it.second}{chance}"
        )
    parts: list[RenderableType] = [Text("\n".join(lines)), _matrix(it)]
    if it.changes:
        parts.append(_changes(it))
    return Group(*parts)


def _matrix(comparison: Comparison) -> Table:
    table = Table(title=f"{comparison.first} (rows) by {comparison.second} (columns)", title_justify="left")
    table.add_column("")
    for grade in Grade:
        table.add_column(str(int(grade)), justify="right")
    for grade, row in zip(Grade, comparison.matrix, strict=True):
        cells = [Text(f"{count:,}", style="bold" if column == grade else "") for column, count in enumerate(row)]
        table.add_row(str(int(grade)), *cells)
    return table


def _changes(comparison: Comparison) -> Table:
    shown = comparison.changes[:SHOWN]
    title = f"Changed: {len(comparison.changes):,}" + (
        f", the largest {SHOWN} (all: --out FILE)" if len(comparison.changes) > SHOWN else ""
    )
    table = Table(title=title, title_justify="left")
    for name in ("image", comparison.first, comparison.second, "reference"):
        table.add_column(name, overflow="fold")
    for change in shown:
        reference = "" if change.reference is None else str(change.reference)
        table.add_row(Text(change.image_id), _outcome(change, 1), _outcome(change, 2), reference)
    return table


def _outcome(change: Change, run: int) -> str:
    status, grade = (change.first, change.first_grade) if run == 1 else (change.second, change.second_grade)
    return status if grade is None else str(grade)
