"""A worker's sign of life on its machine: a file that is touched while work goes on, and read by a probe."""

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

BEAT_EVERY_S = 10.0
LATE_AFTER_S = 60.0
_SUFFIX = ".heartbeat"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A worker that runs on this machine, by its process id, and the age of its last beat."""

    pid: int
    age_s: float

    @property
    def late(self) -> bool:
        """Whether the worker has been silent for too long."""
        return self.age_s > LATE_AFTER_S


def beat() -> None:
    """Touch this process's file. Raises OSError."""
    path = _path(os.getpid())
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.touch()


def end_beating() -> None:
    """Remove this process's file; none there is no error."""
    _path(os.getpid()).unlink(missing_ok=True)


def read_heartbeats() -> list[Heartbeat]:
    """The user's workers that run, by process id. What a killed one left behind is passed over."""
    now = time.time()
    found = []
    for path in _folder().glob(f"*{_SUFFIX}"):
        pid = path.name.removesuffix(_SUFFIX)
        try:
            if pid.isdecimal() and _runs(int(pid)):
                found.append(Heartbeat(int(pid), now - path.stat().st_mtime))
        except FileNotFoundError:
            continue
    return sorted(found, key=lambda heartbeat: heartbeat.pid)


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"fundus-{os.getuid()}"


def _path(pid: int) -> Path:
    return _folder() / f"{pid}{_SUFFIX}"


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
