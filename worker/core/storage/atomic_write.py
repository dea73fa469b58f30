"""Write a file whole or not at all, and leave nothing behind when the process is killed on the way."""

import errno
import os
import shutil
import tempfile
from pathlib import Path
from secrets import token_hex

PART_PREFIX = ".part-"
MODE = 0o644
UNSUPPORTED = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}
"""What a file system without nameless files answers, network ones among them."""


def write_atomically(target: Path, data: bytes) -> None:
    """Give `target` these bytes, on the disk before it has them under its name. Raises OSError."""
    try:
        # A file without a name goes with the process that holds it.
        nameless = os.open(target.parent, os.O_TMPFILE | os.O_WRONLY, MODE)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        write_by_rename(target, data)
        return
    with os.fdopen(nameless, "wb") as file:
        _fill(file.fileno(), data)
        source = f"/proc/self/fd/{file.fileno()}"
        try:
            _link(source, target)
        except FileExistsError:
            # A link cannot take a name that is taken; only a rename can.
            part = target.with_name(f"{PART_PREFIX}{token_hex(8)}")
            _link(source, part)
            try:
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)


def write_by_rename(target: Path, data: bytes) -> None:
    """As `write_atomically`, for file systems without nameless files: a killed process leaves a `.part-` file there."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=PART_PREFIX)
    part = Path(name)
    try:
        try:
            _fill(descriptor, data)
        finally:
            os.close(descriptor)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def copy_atomically(target: Path, source: Path) -> None:
    """As `write_by_rename`, of a file that need not fit into memory."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=PART_PREFIX)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as copy, source.open("rb") as original:
            shutil.copyfileobj(original, copy)
            copy.flush()
            os.fchmod(copy.fileno(), MODE)
            os.fsync(copy.fileno())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _fill(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.fchmod(descriptor, MODE)
    os.fsync(descriptor)


def _link(source: str, target: Path) -> None:
    # With a directory's descriptor Python calls linkat, which can be told to follow /proc's link; plain link cannot.
    os.link(source, target, src_dir_fd=0, follow_symlinks=True)
