"""Several processes run as one: real child processes, which touch heartbeats as workers do."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from worker.consumer.worker_processes import share_of
from worker.core.telemetry.heartbeat import read_heartbeats

READY = "import pathlib, sys; from worker.core.telemetry.heartbeat import *; touch_heartbeat(); "
"""A worker that has loaded its model."""
FINISH = (
    "import signal, time; signal.signal(signal.SIGTERM, lambda *_: (remove_heartbeat(), sys.exit(0)));"
    " pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
)
"""Work until SIGTERM, and end as a worker does. The file shows that it is ready for the signal."""


DRIVER = """
import json, subprocess, sys
from worker.consumer.worker_processes import run_processes

count, folder, *programs = sys.argv[1:]
numbers = []

def start(number):
    numbers.append(number)
    mark = f"{folder}/ready-{len(numbers)}"
    return subprocess.Popen([sys.executable, "-c", programs[len(numbers) - 1], mark])

status = run_processes(int(count), start)
print(json.dumps([status, numbers]))
"""
"""Run the programs in turn. It is a process of its own, as signals and `os.wait` would disturb the test session."""


@pytest.fixture(autouse=True)
def _own_heartbeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def run(tmp_path: Path, count: int, *programs: str, stop_at: Sequence[int] = ()) -> tuple[int, list[int]]:
    """Return the status and the numbers of the processes started; stop_at: send SIGTERM when these ones are ready."""
    command = [sys.executable, "-c", DRIVER, str(count), str(tmp_path), *programs]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        if stop_at:
            while not all((tmp_path / f"ready-{number}").exists() for number in stop_at) and driver.poll() is None:
                time.sleep(0.02)
            driver.terminate()
        printed, _ = driver.communicate(timeout=60)
    # The log goes to the same output.
    status, numbers = json.loads(printed.splitlines()[-1])
    return status, numbers


def test_signal_ends_all_and_they_finish(tmp_path: Path) -> None:
    found = run(tmp_path, 2, READY + FINISH, READY + FINISH, stop_at=(1, 2))
    assert found == (0, [0, 1])
    assert read_heartbeats() == []


def test_process_that_dies_at_work_is_replaced(tmp_path: Path) -> None:
    killed = READY + "import os; os.kill(os.getpid(), 9)"
    status, numbers = run(tmp_path, 2, killed, READY + FINISH, READY + FINISH, stop_at=(2, 3))
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
