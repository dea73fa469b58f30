"""Create files that hold data of patients: readable by their owner and group at most."""

import os
from pathlib import Path
from typing import IO, Any

MODE = 0o640
"""Rights of a new file. The process's umask may withdraw more of them."""


def create_file(path: Path, mode: str, **options: Any) -> IO[Any]:
    """Create a file for writing; `mode` is `x` or `xb`, or `a` for a file that may exist; the options are `open`'s.

    Raises OSError, in the modes `x` and `xb` also if the file exists.
    """
    return open(path, mode, opener=_open, **options)


def _open(path: str, flags: int) -> int:
    return os.open(path, flags, MODE)
