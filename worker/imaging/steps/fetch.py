"""Read the bytes of a photograph from storage, or one entry of a stack of preprocessed images."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from worker.core.errors import (
    ImageChecksumError,
    ImageDecodeError,
    ImageMissingError,
    ImageReferenceError,
    ImageTooLargeError,
)
from worker.core.storage.file_errors import translate_read_error
from worker.core.storage.npy_stack import open_stack

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from worker.core.storage.source_reader import SourceReader

STACK_SUFFIX = ".npy"
CHECKSUM_ATTEMPTS = 3
MAX_INDEX_DIGITS = 18


def is_stack_entry(uri: str) -> bool:
    """Whether the URI has the form `...npy#i`."""
    path, _, fragment = uri.partition("#")
    return bool(fragment) and path.endswith(STACK_SUFFIX)


def fetch_photograph(sources: SourceReader, uri: str, *, max_bytes: int, sha256: str | None = None) -> bytes:
    """Read a photograph and verify its checksum, if one is given.

    A mismatch is fetched again, CHECKSUM_ATTEMPTS times in all: the bytes may have been corrupted in transit.
    Raises ImageError, ImageChecksumError for a persistent mismatch, and StorageError.
    """
    if sha256 is None:
        return sources.read(uri, max_bytes=max_bytes)
    for _ in range(CHECKSUM_ATTEMPTS):
        data = sources.read(uri, max_bytes=max_bytes)
        found = hashlib.sha256(data).hexdigest()
        if found == sha256.lower():
            return data
    raise ImageChecksumError(f"SHA-256 is {found}, expected {sha256.lower()} from the manifest")


def fetch_stack_entry(sources: SourceReader, uri: str, *, max_bytes: int) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Read entry i of `file:///...npy#i`, (H, W, 3) as stored.

    Raises ImageError, ImageTooLargeError for an entry of more than `max_bytes`, and StorageError.
    """
    digits = uri.partition("#")[2]
    if not digits.isascii() or not digits.isdigit() or len(digits) > MAX_INDEX_DIGITS:
        raise ImageReferenceError(f"{uri!r}: #{digits} is not a valid index")
    path, index = sources.resolve_file(uri), int(digits)
    try:
        with open_stack(path) as stack:
            if index >= len(stack):
                raise ImageMissingError(f"{path} has {len(stack)} entries, no entry {index}")
            if stack.entry_bytes > max_bytes:
                # A sparse file of a few bytes may declare an entry of any size.
                raise ImageTooLargeError(f"entry of {stack.entry_bytes:,} bytes, limit {max_bytes:,}")
            return stack.read(index)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageMissingError(f"no file at {path}") from error
    except OSError as error:
        raise translate_read_error(path, error) from error
    except ValueError as error:
        raise ImageDecodeError(f"{path} is not a stack of images: {error}") from error
