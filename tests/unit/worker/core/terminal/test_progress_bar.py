from io import StringIO
from typing import Literal

import pytest
from rich.console import Console

from worker.core.terminal.progress_bar import progress_bar


def console(*, terminal: bool, colours: Literal["standard"] | None = None) -> Console:
    return Console(file=StringIO(), force_terminal=terminal, width=80, color_system=colours, _environ={})


def shown(of: Console) -> str:
    assert isinstance(of.file, StringIO)
    return of.file.getvalue()


def test_line_has_pace_time_left_and_errors_within_80_columns() -> None:
    seconds = [0.0]
    on = console(terminal=True)
    bar = progress_bar(on)
    bar.get_time = lambda: seconds[-1]
    task = bar.add_task("loading the model", total=3115)
    for number in range(1, 11):
        seconds.append(float(number))
        bar.update(task, completed=12 * number, description="grading", errors="2 not graded")
    on.print(bar.get_renderable())
    (line,) = shown(on).splitlines()
    assert len(line.rstrip()) <= 80
    for words in ("grading", "120/3115", "12.0 images/s", "4 min 10 s left", "2 not graded"):
        assert words in line


def test_bar_of_work_that_goes_well_is_not_red() -> None:
    on = console(terminal=True, colours="standard")
    bar = progress_bar(on)
    bar.add_task("grading", total=2, completed=1)
    on.print(bar.get_renderable())
    assert f"\x1b[36m{'━' * 7}" in shown(on)


def test_bar_of_unknown_length_is_not_red() -> None:
    on = console(terminal=True, colours="standard")
    bar = progress_bar(on)
    seconds = [0.0]
    bar.get_time = lambda: seconds[-1]
    bar.add_task("grading", total=None)
    for tenth in range(20):  # A light runs along it, and is now and then between two columns.
        seconds.append(tenth / 10)
        on.print(bar.get_renderable())
    assert "\x1b[36m" in shown(on)
    assert "\x1b[31m" not in shown(on)
    assert "\x1b[35m" not in shown(on)


def test_pace_counts_what_it_is_told_to() -> None:
    seconds = [0.0, 1.0]
    on = console(terminal=True)
    bar = progress_bar(on, unit="resamples")
    bar.get_time = lambda: seconds[-1]
    task = bar.add_task("resampling", total=None)
    for number in range(1, 4):
        seconds.append(1.0 + number)
        bar.update(task, completed=500 * number)
    on.print(bar.get_renderable())
    assert "500.0 resamples/s" in shown(on)


def test_pipe_gets_nothing() -> None:
    into = console(terminal=False)
    with progress_bar(into) as bar:
        task = bar.add_task("grading", total=2)
        bar.update(task, completed=2, errors="1 not graded")
    assert shown(into) == ""


@pytest.mark.parametrize("total", [0, None])
def test_work_of_nothing_or_of_unknown_size_has_a_line_too(total: int | None) -> None:
    on = console(terminal=True)
    bar = progress_bar(on)
    bar.add_task("grading", total=total)
    on.print(bar.get_renderable())
    assert "grading" in shown(on)
    assert "left" not in shown(on)
