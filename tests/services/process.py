"""Start server processes, wait until they are ready, and stop them."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from producer.demo.embedded_valkey import die_with_parent, stop_process

HUNG_AFTER_S = 60
"""Longer than every timeout of the code under test, also on a busy machine."""
START_TIMEOUT_S = 60
LOG_TAIL_CHARS = 1500

T = TypeVar("T")


@dataclass(frozen=True)
class Identity:
    """User of a server process: `preexec` runs in the child before exec, `ids` are user and group of Popen."""

    preexec: Callable[[], None] = lambda: None
    ids: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """A started server process, which may not be ready yet."""

    process: subprocess.Popen[bytes]
    log: Path
    stop_signal: signal.Signals

    def wait_for(self, probe: Callable[[], T], not_yet: tuple[type[Exception], ...]) -> T:
        """Retry `probe` while it raises one of `not_yet`. Raises RuntimeError with the end of the log."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                return probe()
            except not_yet as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    tail = self.log.read_text(errors="replace")[-LOG_TAIL_CHARS:]
                    raise RuntimeError(f"{self.log.stem} is not ready: {error!r}\n{tail}") from error
            time.sleep(0.02)

    def stop(self) -> None:
        stop_process(self.process, self.stop_signal)


def start_server(
    command: Sequence[str | Path],
    log: Path,
    *,
    environment: Mapping[str, str],
    identity: Identity | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
    inherit_environment: bool = True,
) -> Server:
    """Start `command` in the log's folder, in a new process group that ends with this thread.

    stop_signal: signal that stops the server.
    inherit_environment: whether the server gets the variables of this process in addition to `environment`.
    """
    identity = identity or Identity()
    die = die_with_parent(stop_signal)

    def prepare() -> None:
        # Changing the user clears the parent-death signal, so it must be first.
        identity.preexec()
        die()

    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env={**(os.environ if inherit_environment else {}), **environment},
            start_new_session=True,
            preexec_fn=prepare,
            **identity.ids,
        )
    return Server(process, log, stop_signal)
