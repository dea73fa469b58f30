"""Show a comparison of two runs on the terminal."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from worker.core.vocabulary import Grade
from worker.evaluation.comparison import Change, Comparison

MAX_CHANGES = 20


def draw_comparison(comparison: Comparison) -> RenderableType:
    """Return agreement, McNemar test, matrix of grades, and the largest changes."""
    kappa = "-" if comparison.quadratic_weighted_kappa is None else f"{comparison.quadratic_weighted_kappa:.3f}"
    lines = [
        f"{comparison.first} and {comparison.second}: {comparison.common:,} images in common,"
        f" {comparison.same:,} the same ({comparison.same / comparison.common:.1%}), quadratic weighted kappa {kappa}",
    ]
    if comparison.only_in_first or comparison.only_in_second:
        lines.append(
            f"not compared: {comparison.only_in_first:,} only in {comparison.first},"
            f" {comparison.only_in_second:,} only in {comparison.second}"
        )
    if comparison.labelled:
        p_value = "" if comparison.mcnemar_p is None else f" (McNemar, exact: p = {comparison.mcnemar_p:.3g})"
        lines.append(
            f"referable or not, of {comparison.labelled:,} with a reference grade:"
            f" {comparison.only_first_right:,} correct only in {comparison.first},"
            f" {comparison.only_second_right:,} only in {comparison.second}{p_value}"
        )
    parts: list[RenderableType] = [Text("\n".join(lines)), _matrix(comparison)]
    if comparison.changes:
        parts.append(_changes(comparison))
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
    shown = comparison.changes[:MAX_CHANGES]
    title = f"Changed: {len(comparison.changes):,}" + (
        f", the largest {MAX_CHANGES} (all: --out FILE)" if len(comparison.changes) > MAX_CHANGES else ""
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
