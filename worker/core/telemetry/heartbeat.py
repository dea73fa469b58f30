"""Heartbeat files: a worker touches its file while it makes progress, and a liveness probe reads the file's age."""

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HEARTBEAT_INTERVAL_S = 10.0
STALE_AFTER_S = 60.0
_SUFFIX = ".heartbeat"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Process id of a running worker of this machine, and the age of its heartbeat file."""

    pid: int
    age_s: float

    @property
    def is_stale(self) -> bool:
        """Whether the file is older than `STALE_AFTER_S`: the worker hangs."""
        return self.age_s > STALE_AFTER_S


def touch_heartbeat() -> None:
    """Create or touch the heartbeat file of this process. Raises OSError."""
    path = _path(os.getpid())
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.touch()


def remove_heartbeat() -> None:
    """Remove the heartbeat file of this process if it exists."""
    _path(os.getpid()).unlink(missing_ok=True)


def discard_heartbeat(pid: int) -> bool:
    """Remove the heartbeat file of a process that has ended; return whether it was there, as of one that worked."""
    try:
        _path(pid).unlink()
    except FileNotFoundError:
        return False
    return True


def read_heartbeats() -> list[Heartbeat]:
    """Return the heartbeats of the user's running workers by process id; ignore files of dead processes."""
    now = time.time()
    found = []
    for path in runtime_folder().glob(f"*{_SUFFIX}"):
        pid = path.name.removesuffix(_SUFFIX)
        try:
            if pid.isdecimal() and _is_running(int(pid)):
                found.append(Heartbeat(int(pid), now - path.stat().st_mtime))
        except FileNotFoundError:
            continue
    return sorted(found, key=lambda heartbeat: heartbeat.pid)


def runtime_folder() -> Path:
    """Return this user's folder for the files of running workers."""
    return Path(tempfile.gettempdir()) / f"fundus-{os.getuid()}"


def _path(pid: int) -> Path:
    return runtime_folder() / f"{pid}{_SUFFIX}"


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
