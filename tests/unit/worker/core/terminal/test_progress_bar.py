from io import StringIO
from typing import Literal

import pytest
from rich.console import Console

from worker.core.terminal.progress_bar import progress_bar


def make_console(*, terminal: bool, colours: Literal["standard"] | None = None) -> Console:
    return Console(file=StringIO(), force_terminal=terminal, width=80, color_system=colours, _environ={})


def output_of(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_line_has_rate_remaining_time_and_errors_within_80_columns() -> None:
    seconds = [0.0]
    on = make_console(terminal=True)
    bar = progress_bar(on)
    bar.get_time = lambda: seconds[-1]
    task = bar.add_task("loading the model", total=3115)
    for number in range(1, 11):
        seconds.append(float(number))
        bar.update(task, completed=12 * number, description="grading", errors="2 not graded")
    on.print(bar.get_renderable())
    (line,) = output_of(on).splitlines()
    assert len(line.rstrip()) <= 80
    for words in ("grading", "120/3115", "12.0 images/s", "4 min 10 s left", "2 not graded"):
        assert words in line


def test_bar_without_errors_is_cyan() -> None:
    on = make_console(terminal=True, colours="standard")
    bar = progress_bar(on)
    bar.add_task("grading", total=2, completed=1)
    on.print(bar.get_renderable())
    assert f"\x1b[36m{'━' * 7}" in output_of(on)


def test_bar_of_unknown_total_is_cyan() -> None:
    on = make_console(terminal=True, colours="standard")
    bar = progress_bar(on)
    seconds = [0.0]
    bar.get_time = lambda: seconds[-1]
    bar.add_task("grading", total=None)
    for tenth in range(20):  # The pulse is sometimes between two columns.
        seconds.append(tenth / 10)
        on.print(bar.get_renderable())
    assert "\x1b[36m" in output_of(on)
    assert "\x1b[31m" not in output_of(on)
    assert "\x1b[35m" not in output_of(on)


def test_rate_has_the_given_unit() -> None:
    seconds = [0.0, 1.0]
    on = make_console(terminal=True)
    bar = progress_bar(on, unit="resamples")
    bar.get_time = lambda: seconds[-1]
    task = bar.add_task("resampling", total=None)
    for number in range(1, 4):
        seconds.append(1.0 + number)
        bar.update(task, completed=500 * number)
    on.print(bar.get_renderable())
    assert "500.0 resamples/s" in output_of(on)


def test_pipe_gets_no_output() -> None:
    into = make_console(terminal=False)
    with progress_bar(into) as bar:
        task = bar.add_task("grading", total=2)
        bar.update(task, completed=2, errors="1 not graded")
    assert output_of(into) == ""


@pytest.mark.parametrize("total", [0, None])
def test_bar_without_a_total_has_no_remaining_time(total: int | None) -> None:
    on = make_console(terminal=True)
    bar = progress_bar(on)
    bar.add_task("grading", total=total)
    on.print(bar.get_renderable())
    assert "grading" in output_of(on)
    assert "left" not in output_of(on)
