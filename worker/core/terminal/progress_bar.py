"""Progress bar with count, rate, remaining time and errors."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from worker.core.terminal.output import BAR_STYLE, format_duration

_BAR_COLUMNS = 14


def progress_bar(console: Console, *, unit: str = "images") -> Progress:
    """Make a transient progress bar of one 80-column line; it shows nothing if the console is not a terminal.

    unit: plural noun of the counted items.
    A task's field `errors` is a sentence about errors so far.
    """
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(_BAR_COLUMNS, complete_style=BAR_STYLE, pulse_style=BAR_STYLE),
        MofNCompleteColumn(),
        _Rate(unit),
        _TimeLeft(),
        _Errors(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text("" if not rate else f"{rate:,.1f} {self._unit}/s")


class _TimeLeft(ProgressColumn):
    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        seconds = None if task.finished else task.time_remaining
        return Text("" if seconds is None else f"{format_duration(seconds)} left")


class _Errors(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields.get("errors", ""), style="yellow")
