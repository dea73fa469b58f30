"""Restart dead workers, as an init system does, and track all their processes."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

RESTART_AFTER_S = 0.5
ENDED_WITHIN_S = 60.0
READY = re.compile(r"@\S+ ready\.")
"""Line that Celery logs once it handles messages and signals."""


class Supervisor:
    """Runs `count` workers, each with a log file; call `restart_dead` repeatedly."""

    def __init__(self, command: Sequence[str | Path], count: int, env: Mapping[str, str], folder: Path) -> None:
        self._command = list(command)
        self._env = {**os.environ, **env}
        self._folder = folder
        self._seen: set[psutil.Process] = set()
        self._dead_since: dict[int, float] = {}
        self.exits: list[int] = []
        """Exit codes of workers that ended before `stop`."""
        self.starts = 0
        self._logs = [self._next_log() for _ in range(count)]
        self.workers = [self._start(index) for index in range(count)]

    @property
    def logs(self) -> str:
        """The logs of all workers."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self._folder.glob("worker-*.log")))

    def restart_dead(self) -> None:
        """Record child processes; restart workers that ended at least RESTART_AFTER_S ago."""
        for index, worker in enumerate(self.workers):
            if worker.poll() is None:
                self._note(worker.pid)
            elif index not in self._dead_since:
                self.exits.append(worker.returncode)
                self._dead_since[index] = time.monotonic()
            elif time.monotonic() - self._dead_since[index] > RESTART_AFTER_S:
                del self._dead_since[index]
                self._logs[index] = self._next_log()
                self.workers[index] = self._start(index)

    def ready(self) -> bool:
        """Return whether all workers are ready."""
        return len(self.ready_workers()) == len(self.workers)

    def ready_workers(self) -> list[int]:
        """Return the indices of running workers that handle messages and signals."""
        return [
            index
            for index, (worker, log) in enumerate(zip(self.workers, self._logs, strict=True))
            if worker.poll() is None and READY.search(log.read_text(errors="replace"))
        ]

    def signal(self, index: int, number: signal.Signals) -> None:
        self.workers[index].send_signal(number)

    def stop(self) -> list[int]:
        """Send SIGTERM to all running workers; return their exit codes, -9 after a timeout."""
        alive = [worker for worker in self.workers if worker.poll() is None]
        for worker in alive:
            self._note(worker.pid)
            worker.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + ENDED_WITHIN_S
        for worker in alive:
            try:
                worker.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        return [worker.returncode for worker in alive]

    def leftovers(self) -> list[str]:
        """Return the command lines of processes that outlived their worker."""
        _, alive = psutil.wait_procs(self._seen, timeout=5)
        return [" ".join(process.cmdline()) for process in alive if process.status() != psutil.STATUS_ZOMBIE]

    def _next_log(self) -> Path:
        self.starts += 1
        return self._folder / f"worker-{self.starts:03}.log"

    def _start(self, index: int) -> subprocess.Popen[bytes]:
        with self._logs[index].open("wb") as log:
            return subprocess.Popen(
                self._command, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _note(self, pid: int) -> None:
        try:
            process = psutil.Process(pid)
            self._seen |= {process, *process.children(recursive=True)}
        except psutil.NoSuchProcess:
            pass
