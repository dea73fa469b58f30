"""Several processes run as one: real child processes, which touch heartbeats as workers do."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.consumer.worker_processes import run_processes, share_of
from worker.core.telemetry.heartbeat import read_heartbeats

READY = "import pathlib, sys; from worker.core.telemetry.heartbeat import *; touch_heartbeat(); "
"""A worker that has loaded its model."""
FINISH = (
    "import signal, time; signal.signal(signal.SIGTERM, lambda *_: (remove_heartbeat(), sys.exit(0)));"
    " pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
)
"""Work until SIGTERM, and end as a worker does. The file shows that it is ready for the signal."""


class Children:
    """Starts the programs in turn, and remembers the number of each."""

    def __init__(self, folder: Path, *programs: str) -> None:
        self.numbers: list[int] = []
        self._folder, self._programs = folder, iter(programs)

    def __call__(self, number: int) -> "subprocess.Popen[bytes]":
        self.numbers.append(number)
        mark = self._folder / f"ready-{len(self.numbers)}"
        return subprocess.Popen([sys.executable, "-c", next(self._programs), str(mark)])


@pytest.fixture(autouse=True)
def _own_heartbeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def stop_when(*marks: Path) -> "subprocess.Popen[bytes]":
    """Send SIGTERM to this process when all these files exist."""
    program = (
        "import os, pathlib, sys, time\n"
        "while not all(pathlib.Path(mark).exists() for mark in sys.argv[1:]): time.sleep(0.02)\n"
        f"os.kill({os.getpid()}, {int(signal.SIGTERM)})"
    )
    return subprocess.Popen([sys.executable, "-c", program, *map(str, marks)])


def run(tmp_path: Path, count: int, *programs: str, stop: Callable[[], object] = lambda: None) -> tuple[int, list[int]]:
    children = Children(tmp_path, *programs)
    stop()
    return run_processes(count, children), children.numbers


def test_signal_ends_all_and_they_finish(tmp_path: Path) -> None:
    marks = [tmp_path / f"ready-{number}" for number in (1, 2)]
    found = run(tmp_path, 2, READY + FINISH, READY + FINISH, stop=lambda: stop_when(*marks))
    assert found == (0, [0, 1])
    assert read_heartbeats() == []


def test_process_that_dies_at_work_is_replaced(tmp_path: Path) -> None:
    killed = READY + "import os; os.kill(os.getpid(), 9)"
    marks = [tmp_path / f"ready-{number}" for number in (2, 3)]
    status, numbers = run(tmp_path, 2, killed, READY + FINISH, READY + FINISH, stop=lambda: stop_when(*marks))
    assert (status, numbers) == (0, [0, 1, 0])


def test_process_that_never_becomes_ready_ends_all_with_its_status(tmp_path: Path) -> None:
    waits = (
        f"import pathlib, sys, time\nwhile not pathlib.Path({str(tmp_path / 'ready-1')!r}).exists(): time.sleep(0.02)\n"
    )
    found = run(tmp_path, 2, READY + FINISH, waits + "sys.exit(3)")
    assert found == (3, [0, 1])


@pytest.mark.parametrize(("total", "count", "shares"), [(16, 4, [4, 4, 4, 4]), (7, 2, [4, 3]), (2, 4, [1, 1, 1, 1])])
def test_processes_share_what_there_is(total: int, count: int, shares: list[int]) -> None:
    assert [share_of(total, count, number) for number in range(count)] == shares
