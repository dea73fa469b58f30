from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO

from rich.console import Console, RenderableType

from producer.views.status import draw_overview, draw_progress
from worker.core.vocabulary import Grade, Queue, RunKind, RunState, Status
from worker.ledger.runs import Run
from worker.ledger.status import Counts, RunProgress
from worker.ledger.throughput import BusyTime, Throughput

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def run(state: RunState = RunState.RUNNING, finished_at: datetime | None = None) -> Run:
    return Run(
        1, "night-1", RunKind.MANUAL, state, Queue.BULK, "/photos", 32, "0123456789abcdef", NOON, NOON, finished_at
    )


def counts(queued: int = 0, grades: tuple[int, ...] = (0, 0, 0, 0, 0), failed: int = 0) -> Counts:
    by_status = dict.fromkeys(Status, 0) | {Status.QUEUED: queued, Status.GRADED: sum(grades), Status.FAILED: failed}
    return Counts(by_status, dict(zip(Grade, grades, strict=True)))


def drawn(view: RenderableType) -> list[str]:
    console = Console(width=80, file=StringIO())
    console.print(view)
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_running_run_shows_rate_and_time_left() -> None:
    progress = RunProgress(
        run(),
        counts(1881, (540, 120, 300, 120, 120), 34),
        {"image_format": 30, "image_damaged": 4},
        Throughput(12.54),
    )

    assert drawn(draw_progress(progress)) == [
        "night-1  running  bulk  model 0123456789abcdef",
        "━" * 25,
        "1,234 of 3,115  39.6 %  12.5 images/s  2 min 30 s left",
        "",
        "queued       1,881        0 no DR                 540",
        "graded       1,200        1 mild                  120",
        "ungradable       0        2 moderate              300",
        "failed          34        3 severe                120",
        "quarantined      0        4 proliferative         120",
        "cancelled        0        referable (2 or worse)  540",
        "",
        "not graded: image_format 30, image_damaged 4",
    ]


def test_bar_of_a_running_run_is_cyan() -> None:
    console = Console(width=80, file=StringIO(), force_terminal=True, color_system="standard", _environ={})
    console.print(draw_progress(RunProgress(run(), counts(8, (56, 0, 0, 0, 0)), {}, Throughput(12.5))))
    assert isinstance(console.file, StringIO)
    assert f"\x1b[36m{'━' * 56}" in console.file.getvalue()


def test_finished_run_shows_its_busy_time() -> None:
    finished = run(RunState.FINISHED, NOON + timedelta(hours=9))
    done = counts(grades=(540, 0, 0, 0, 0))

    lines = drawn(draw_progress(RunProgress(finished, done, {}, Throughput(None, BusyTime(540, 270.0)))))

    assert lines[2].split("  ") == ["540 of 540", "100.0 %", "2.0 images/s", "in 4 min 30 s of work"]


def test_cancelled_run_has_no_full_bar() -> None:
    stopped = counts(grades=(20, 0, 0, 0, 0))
    stopped = replace(stopped, by_status={**stopped.by_status, Status.CANCELLED: 60})
    cancelled = run(RunState.CANCELLED)

    lines = drawn(draw_progress(RunProgress(cancelled, stopped, {}, Throughput())))

    assert lines[1] == "━" * 16
    assert lines[2].split("  ") == ["20 of 80", "25.0 %"]
    assert drawn(draw_overview([(cancelled, stopped)]))[-1].split()[:5] == ["night-1", "cancelled", "80", "25.0", "%"]


def test_hold_is_shown_with_the_state() -> None:
    held = replace(run(RunState.FINISHED, NOON), held=True)

    lines = drawn(draw_progress(RunProgress(held, counts(grades=(2, 0, 0, 0, 0)), {}, Throughput())))
    listed = drawn(draw_overview([(held, counts(grades=(2, 0, 0, 0, 0)))]))

    assert lines[0] == "night-1  finished, held  bulk  model 0123456789abcdef"
    assert listed[-1].split()[:3] == ["night-1", "finished,", "held"]


def test_percentage_is_rounded_down() -> None:
    lines = drawn(draw_progress(RunProgress(run(), counts(1, (999_999, 0, 0, 0, 0)), {}, Throughput())))

    assert lines[2].split("  ") == ["999,999 of 1,000,000", "99.9 %"]


def test_overview_counts_referable_and_not_graded() -> None:
    lines = drawn(draw_overview([(run(), counts(5, (1, 1, 2, 0, 1), 2))]))

    assert [line.split() for line in lines] == [
        ["not"],
        ["run", "state", "images", "done", "graded", "referable", "graded"],
        ["night-1", "running", "12", "58.3", "%", "5", "3", "2"],
    ]
