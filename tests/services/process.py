"""Start a server's process, wait until it answers, and end it."""

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
"""Above any time limit of the code under test, also on a machine that is busy with other work."""
READY_WITHIN_S = 60
LAST_WORDS = 1500

T = TypeVar("T")


@dataclass(frozen=True)
class Identity:
    """Whom a server runs as: `become` runs in the child before exec, `ids` are Popen's user and group."""

    become: Callable[[], None] = lambda: None
    ids: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """A process that was started and may not answer yet."""

    process: subprocess.Popen[bytes]
    log: Path
    parting: signal.Signals

    def wait_for(self, probe: Callable[[], T], not_yet: tuple[type[Exception], ...]) -> T:
        """What `probe` returns once it raises none of `not_yet`. Raises RuntimeError with the end of the log."""
        deadline = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                return probe()
            except not_yet as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    words = self.log.read_text(errors="replace")[-LAST_WORDS:]
                    raise RuntimeError(f"{self.log.stem} does not answer: {error!r}\n{words}") from error
            time.sleep(0.02)

    def stop(self) -> None:
        stop_process(self.process, self.parting)


def start(
    command: Sequence[str | Path],
    log: Path,
    *,
    environment: Mapping[str, str],
    identity: Identity | None = None,
    parting: signal.Signals = signal.SIGTERM,
    inherits: bool = True,
) -> Server:
    """Start `command` in the log's folder, in a process group of its own that ends with this thread.

    `inherits`: this process's own variables beside those of `environment`.
    """
    identity = identity or Identity()
    die = die_with_parent(parting)

    def arrange() -> None:
        # A change of identity forgets the parent, so it comes first.
        identity.become()
        die()

    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env={**(os.environ if inherits else {}), **environment},
            start_new_session=True,
            preexec_fn=arrange,
            **identity.ids,
        )
    return Server(process, log, parting)
