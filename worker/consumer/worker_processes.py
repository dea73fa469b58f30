"""Run several worker processes as one: start them, pass the end on to them, replace those that die while they work."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

import structlog

from worker.core.telemetry.heartbeat import discard_heartbeat

log = structlog.get_logger(__name__)


class _Running(NamedTuple):
    number: int
    process: "subprocess.Popen[bytes]"


Start = Callable[[int], "subprocess.Popen[bytes]"]
"""Start the process with this number, from 0."""


def run_processes(count: int, start: Start) -> int:
    """Run processes 0 to count - 1 until SIGTERM or SIGINT, and return an exit status.

    A process that dies after its first heartbeat is replaced. One that ends before, or by itself, ends all: the status
    is its own, and the service manager decides. SIGTERM reaches each process; all finish their chunks.
    """
    running: dict[int, _Running] = {}
    with _stop_signals(running) as is_stopping:

        def launch(number: int) -> None:
            process = start(number)
            running[process.pid] = _Running(number, process)
            if is_stopping():  # the signal came before this process was known
                process.terminate()

        for number in range(count):
            launch(number)
        status = 0
        while running:
            pid, ended = os.wait()
            if pid not in running:
                continue
            number, process = running.pop(pid)
            process.returncode = code = os.waitstatus_to_exitcode(ended)
            was_ready = discard_heartbeat(pid)
            if is_stopping():
                status = status or _as_status(code)
            elif was_ready:
                log.error("worker_process_replaced", number=number, pid=pid, exit_code=code)
                launch(number)
            else:
                log.error("worker_process_ended", number=number, pid=pid, exit_code=code)
                status = _as_status(code)
                signal.raise_signal(signal.SIGTERM)
    return status


def share_of(total: int, count: int, number: int) -> int:
    """Return the part of process `number` when `count` processes share `total`; at least 1."""
    return max(1, total // count + (number < total % count))


@contextmanager
def _stop_signals(running: dict[int, _Running]) -> Iterator[Callable[[], bool]]:
    """Terminate all processes at the first SIGTERM or SIGINT; yields a function that returns whether one has come."""
    received: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            for _, process in list(running.values()):
                process.terminate()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _as_status(code: int) -> int:
    """Return an exit code as a shell reports it: 128 and the number of the signal that killed the process."""
    return code if code >= 0 else 128 - code
