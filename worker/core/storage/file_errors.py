"""Translate errors of the file system into errors of the store."""

import errno
from pathlib import Path

from worker.core.errors import ObjectRefusedError, StorageError

REFUSED_ERRNOS = {errno.EACCES, errno.EPERM}


def translate_read_error(path: Path, error: OSError) -> StorageError:
    """Return an ObjectRefusedError for a missing permission, and another StorageError for anything else."""
    kind = ObjectRefusedError if error.errno in REFUSED_ERRNOS else StorageError
    return kind(f"cannot read {path}: {error.strerror or error}")
