"""Bring the bytes that a reference points at, or one entry of a stack of preprocessed images."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import numpy as np

from worker.contract.errors import (
    ImageChecksumError,
    ImageDecodeError,
    ImageMissingError,
    ImageReferenceError,
    StorageError,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from worker.contract.storage import Storage

STACK_SUFFIX = ".npy"


def is_stack_entry(uri: str) -> bool:
    """Whether the reference is `...npy#i`."""
    parts = urlsplit(uri)
    return bool(parts.fragment) and parts.path.endswith(STACK_SUFFIX)


def fetch_photograph(storage: Storage, uri: str, *, max_bytes: int, sha256: str | None = None) -> bytes:
    """The bytes as received. Raises ImageError, also for bytes that the manifest did not promise, and StorageError."""
    data = storage.read(uri, max_bytes=max_bytes)
    if sha256 is not None:
        found = hashlib.sha256(data).hexdigest()
        if found != sha256.lower():
            raise ImageChecksumError(f"SHA-256 is {found}, the manifest promised {sha256.lower()}")
    return data


def fetch_stack_entry(uri: str) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Entry i of a `file:///...npy#i` reference: (H, W, 3) as stored, copied out of the mapped file."""
    parts = urlsplit(uri)
    if parts.scheme != "file":
        raise ImageReferenceError(f"{uri!r}: a stack must be a file:// reference")
    if not parts.fragment.isascii() or not parts.fragment.isdigit():
        raise ImageReferenceError(f"{uri!r}: #{parts.fragment} is no index")
    path, index = Path(unquote(parts.path)), int(parts.fragment)
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
    entry: NDArray[np.uint8] | NDArray[np.float32] = stack[index].copy()
    return entry


@lru_cache(maxsize=8)
def _open_stack(path: Path, _mtime_ns: int, _size: int) -> NDArray[np.uint8] | NDArray[np.float32]:
    stack = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(stack, np.ndarray) or stack.ndim != 4 or stack.shape[3] != 3:
        raise ValueError(f"shape {getattr(stack, 'shape', '?')} is not N x H x W x 3")
    if stack.dtype not in (np.dtype(np.uint8), np.dtype(np.float32)):
        raise ValueError(f"dtype {stack.dtype} is neither uint8 nor float32")
    return stack
