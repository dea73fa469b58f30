"""The bar of work that takes a while: how many, how fast, how long still, and what went wrong so far."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from producer.screen import BAR_STYLE, duration

_BAR_COLUMNS = 14


def progress_bar(console: Console) -> Progress:
    """A bar that goes with the work; nothing at all where the console is no terminal, and one line of 80 columns.

    A task's field `errors` is a sentence on what went wrong so far, empty where nothing did.
    """
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(_BAR_COLUMNS, complete_style=BAR_STYLE),
        MofNCompleteColumn(),
        _Pace(),
        _Left(),
        TextColumn("{task.fields[errors]}", style="yellow"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


class _Pace(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text("" if not rate else f"{rate:,.1f} images/s")


class _Left(ProgressColumn):
    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        seconds = None if task.finished else task.time_remaining
        return Text("" if seconds is None else f"{duration(seconds)} left")
