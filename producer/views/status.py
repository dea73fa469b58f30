"""Draw the state of runs for a terminal of 80 columns."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from worker.core.terminal.output import BAR_STYLE, format_duration
from worker.core.vocabulary import REFERABLE_FROM, Grade, RunState, Status
from worker.ledger.outbox_runs import describe_publications
from worker.ledger.runs import Run
from worker.ledger.status import FAILURES, Counts, RunProgress

GRADE_NAMES = {
    Grade.NO_DR: "no DR",
    Grade.MILD: "mild",
    Grade.MODERATE: "moderate",
    Grade.SEVERE: "severe",
    Grade.PROLIFERATIVE: "proliferative",
}
STATE_STYLES = {
    RunState.OPEN: "yellow",
    RunState.RUNNING: "cyan",
    RunState.FINISHED: "green",
    RunState.CANCELLED: "red",
}
_BAR_COLUMNS = 64
_ERRORS_SHOWN = 8
_RUN_COLUMNS = 18
"""The name of a night fits."""


def draw_progress(progress: RunProgress) -> RenderableType:
    """Draw one run: heading, progress bar, counts by status and by grade, errors by code."""
    parts: list[RenderableType] = [_heading(progress.run), _bar(progress), "", _counts(progress.counts)]
    if progress.missing_model is not None:
        parts += ["", Text(f"no running worker has the model {progress.missing_model}", "red")]
    if progress.not_validated is not None:
        parts += ["", Text(progress.not_validated, "yellow")]
    if progress.errors:
        parts += ["", _errors(progress)]
    if published := describe_publications(progress.publications):
        codes = ", ".join(f"{code} {number:,}" for code, number in progress.publication_errors.items())
        parts += ["", Text(f"published: {published}"), *([Text(f"not published: {codes}", "yellow")] if codes else [])]
    return Group(*parts)


def draw_overview(runs: Sequence[tuple[Run, Counts]]) -> RenderableType:
    """Draw a table of runs."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("run", overflow="fold", min_width=_RUN_COLUMNS)
    table.add_column("state")
    for column in ("images", "done", "graded", "referable", "not\ngraded"):
        table.add_column(column, justify="right")
    for run, counts in runs:
        not_graded = sum(counts.by_status[status] for status in FAILURES)
        table.add_row(
            run.name,
            _state(run),
            f"{counts.total:,}",
            _percent(counts),
            f"{counts.by_status[Status.GRADED]:,}",
            f"{_referable(counts):,}",
            Text(f"{not_graded:,}", "yellow" if not_graded else ""),
        )
    return table


def _heading(run: Run) -> Text:
    model = f"model {run.model_id}" if run.model_id else "no model yet"
    only = f", {run.precision} only" if run.precision else ""
    site = f"  site {run.site}" if run.site else ""
    return Text.assemble((run.name, "bold"), "  ", _state(run), f"  {run.queue}  {model}{only}{site}")


def _state(run: Run) -> Text:
    """Draw the run's state and whether it is under a legal hold."""
    return Text.assemble((run.state, STATE_STYLES[run.state]), (", held" if run.held else "", "magenta"))


def _bar(progress: RunProgress) -> RenderableType:
    counts = progress.counts
    words = [f"{counts.processed:,} of {counts.total:,}", _percent(counts)]
    throughput = progress.throughput
    rate = throughput.recent or throughput.overall
    if rate is not None:
        words.append(f"{rate:,.1f} images/s")
    if progress.seconds_left is not None:
        words.append(f"{format_duration(progress.seconds_left)} left")
    elif progress.is_over and throughput.busy is not None:
        words.append(f"in {format_duration(throughput.busy.seconds)} of work")
    # An empty run is complete, not 0 of 0.
    bar = ProgressBar(
        total=counts.total or 1,
        completed=counts.processed if counts.total else 1,
        width=_BAR_COLUMNS,
        complete_style=BAR_STYLE,
    )
    # ProgressBar does not end its line; the grid does.
    lines = Table.grid()
    lines.add_row(bar)
    lines.add_row(Text("  ".join(words)))
    return lines


def _counts(counts: Counts) -> RenderableType:
    styles = {Status.GRADED: "green", **dict.fromkeys(FAILURES, "yellow"), Status.CANCELLED: "red"}
    left = [(status.value, counts.by_status[status], styles.get(status, "")) for status in Status]
    right = [
        (f"{int(grade)} {GRADE_NAMES[grade]}", number, "bold" if grade >= REFERABLE_FROM else "")
        for grade, number in counts.by_grade.items()
    ]
    right.append(("referable (2 or worse)", _referable(counts), "bold"))
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(width=4)
    table.add_column()
    table.add_column(justify="right")
    for (status, number, style), (grade, of_grade, grade_style) in zip(left, right, strict=True):
        table.add_row(
            status, Text(f"{number:,}", style if number else "dim"), "", grade, Text(f"{of_grade:,}", grade_style)
        )
    return table


def _errors(progress: RunProgress) -> Text:
    shown = list(progress.errors.items())[:_ERRORS_SHOWN]
    more = len(progress.errors) - len(shown)
    words = ", ".join(f"{code} {number:,}" for code, number in shown) + (f" and {more} more" if more else "")
    return Text(f"not graded: {words}")


def _referable(counts: Counts) -> int:
    return sum(number for grade, number in counts.by_grade.items() if grade >= REFERABLE_FROM)


def _percent(counts: Counts) -> str:
    # Rounded down, so that 100 % means complete.
    tenths = 1000 * counts.processed // counts.total if counts.total else 1000
    return f"{tenths / 10:.1f} %"
