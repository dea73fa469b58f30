"""Write files atomically, readable by owner and group at most.

A killed process leaves no partial file where the file system supports O_TMPFILE.
"""

import errno
import os
import shutil
from pathlib import Path
from secrets import token_hex

from worker.core.storage.private_file import MODE, create_file

PART_PREFIX = ".part-"
UNSUPPORTED = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}
"""Errors of file systems without O_TMPFILE, such as network file systems."""


def write_atomically(target: Path, data: bytes) -> None:
    """Write `data` to `target`, synchronised to disk before it gets its name. Raises OSError."""
    try:
        # A file without a name disappears with its process.
        unnamed = os.open(target.parent, os.O_TMPFILE | os.O_WRONLY, MODE)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        write_by_rename(target, data)
        return
    with os.fdopen(unnamed, "wb") as file:
        _write_all(file.fileno(), data)
        source = f"/proc/self/fd/{file.fileno()}"
        try:
            _link(source, target)
        except FileExistsError:
            # A link cannot replace an existing name; a rename can.
            part = _part(target)
            _link(source, part)
            try:
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)


def write_by_rename(target: Path, data: bytes) -> None:
    """Write `data` to `target` through a `.part-` file, which a killed process leaves behind. Raises OSError."""
    part = _part(target)
    try:
        with create_file(part, "xb") as file:
            _write_all(file.fileno(), data)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def copy_atomically(target: Path, source: Path) -> None:
    """Copy `source`, which need not fit into memory, to `target` through a `.part-` file. Raises OSError."""
    part = _part(target)
    try:
        with create_file(part, "xb") as copy, source.open("rb") as original:
            shutil.copyfileobj(original, copy)
            copy.flush()
            os.fsync(copy.fileno())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _part(target: Path) -> Path:
    return target.with_name(f"{PART_PREFIX}{token_hex(8)}")


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.fsync(descriptor)


def _link(source: str, target: Path) -> None:
    # With src_dir_fd Python calls linkat, which can follow the link in /proc; link cannot.
    os.link(source, target, src_dir_fd=0, follow_symlinks=True)
