"""Number the workers of a user on this machine, so that their names stay the same from start to start."""

import fcntl
from itertools import count
from pathlib import Path
from typing import IO

from worker.core.storage.private_file import create_file

_held: list[IO[str]] = []
"""Open lock files: the kernel releases a number when its process ends, however it ends."""


def claim_worker_number(folder: Path) -> int:
    """Return the smallest number from 1 on that no running worker holds, and hold it until this process ends.

    folder: for the lock files; it is created for its owner alone. Raises OSError.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    for number in count(1):
        file = create_file(folder / f"worker-{number}.lock", "a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        _held.append(file)
        return number
    raise AssertionError("counting does not end")
