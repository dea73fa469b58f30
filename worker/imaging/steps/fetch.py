"""Bring the bytes that a reference points at, or one entry of a stack of preprocessed images."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from worker.core.errors import (
    ImageChecksumError,
    ImageDecodeError,
    ImageMissingError,
    ImageReferenceError,
    ImageTooLargeError,
    StorageError,
)
from worker.core.storage.npy_stack import open_stack

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from worker.core.storage.object_store import Storage

STACK_SUFFIX = ".npy"
CHECKSUM_ATTEMPTS = 3
MAX_INDEX_DIGITS = 18


def is_stack_entry(uri: str) -> bool:
    """Whether the reference is `...npy#i`."""
    path, _, fragment = uri.partition("#")
    return bool(fragment) and path.endswith(STACK_SUFFIX)


def fetch_photograph(storage: Storage, uri: str, *, max_bytes: int, sha256: str | None = None) -> bytes:
    """The bytes as received. Raises ImageError, also for bytes that the manifest did not promise, and StorageError.

    What does not match `sha256` is fetched again before it is refused: the way here may have changed it.
    """
    if sha256 is None:
        return storage.read(uri, max_bytes=max_bytes)
    for _ in range(CHECKSUM_ATTEMPTS):
        data = storage.read(uri, max_bytes=max_bytes)
        found = hashlib.sha256(data).hexdigest()
        if found == sha256.lower():
            return data
    raise ImageChecksumError(f"SHA-256 is {found}, the manifest promised {sha256.lower()}")


def fetch_stack_entry(storage: Storage, uri: str, *, max_bytes: int) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Entry i of a `file:///...npy#i` reference: (H, W, 3) as stored, copied out of the mapped file.

    Raises ImageError, also for an entry of more than `max_bytes`, and StorageError.
    """
    digits = uri.partition("#")[2]
    if not digits.isascii() or not digits.isdigit() or len(digits) > MAX_INDEX_DIGITS:
        raise ImageReferenceError(f"{uri!r}: #{digits} is no index")
    path, index = storage.locate(uri), int(digits)
    try:
        status = path.stat()
        stack = _open_stack(path, status.st_mtime_ns, status.st_size)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageMissingError(f"no file at {path}") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ImageDecodeError(f"{path} is no stack of images: {error}") from error
    if index >= len(stack):
        raise ImageMissingError(f"{path} has {len(stack)} entries, #{index} was asked for")
    if stack[index].nbytes > max_bytes:
        # A sparse file of a few bytes may claim an entry of any size.
        raise ImageTooLargeError(f"entry of {stack[index].nbytes} bytes, the limit is {max_bytes}")
    entry: NDArray[np.uint8] | NDArray[np.float32] = stack[index].copy()
    return entry


@lru_cache(maxsize=8)
def _open_stack(path: Path, _mtime_ns: int, _size: int) -> NDArray[np.uint8] | NDArray[np.float32]:
    return open_stack(path)
