"""Read the bytes of a photograph from storage, or one entry of a stack of preprocessed images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from worker.core.content import ContentId
from worker.core.dicom.pixel_hash import hash_pixels
from worker.core.dicom.transfer_syntaxes import is_dicom
from worker.core.errors import (
    ImageChangedError,
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

StackEntry: TypeAlias = "NDArray[np.uint8] | NDArray[np.float32]"
T = TypeVar("T")

STACK_SUFFIX = ".npy"
CHECKSUM_ATTEMPTS = 3
MAX_INDEX_DIGITS = 18


def is_stack_entry(uri: str) -> bool:
    """Whether the URI has the form `...npy#i`."""
    path, _, fragment = uri.partition("#")
    return bool(fragment) and path.endswith(STACK_SUFFIX)


@dataclass(frozen=True, slots=True)
class Fetched(Generic[T]):
    """Bytes of a photograph, or the array of a stack's entry, with the identity of the content."""

    data: T
    content: ContentId


def fetch_photograph(
    sources: SourceReader, uri: str, *, max_bytes: int, sha256: str | None = None, graded_sha256: str | None = None
) -> Fetched[bytes]:
    """Read a photograph and verify its checksum, if one is given.

    sha256: from the manifest. graded_sha256: of what was graded, see `ContentId`, where it is fetched again for a
    reader; it replaces the manifest's. Of a DICOM file, both may also be the hash of the whole file. A mismatch is
    fetched again, CHECKSUM_ATTEMPTS times in all: the bytes may have been corrupted in transit. Raises ImageError, for
    a persistent mismatch ImageChecksumError or ImageChangedError, and StorageError.
    """
    expected = graded_sha256 or (sha256.lower() if sha256 else None)
    for _ in range(CHECKSUM_ATTEMPTS):
        found = sources.read(uri, max_bytes=max_bytes)
        content = ContentId(_hash(found.data), found.version)
        if expected in (None, content.sha256) or (is_dicom(found.data) and expected == _hash_bytes(found.data)):
            return Fetched(found.data, content)
    if graded_sha256 is not None:
        raise _changed(content.sha256, graded_sha256)
    raise ImageChecksumError(f"SHA-256 is {content.sha256}, expected {expected} from the manifest")


def fetch_stack_entry(
    sources: SourceReader, uri: str, *, max_bytes: int, graded_sha256: str | None = None
) -> Fetched[StackEntry]:
    """Read entry i of `file:///...npy#i`, (H, W, 3) as stored.

    graded_sha256: as for `fetch_photograph`. Raises ImageError, ImageChangedError if the entry has another hash,
    ImageTooLargeError for an entry of more than `max_bytes`, and StorageError.
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
            entry = stack.read(index)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageMissingError(f"no file at {path}") from error
    except OSError as error:
        raise translate_read_error(path, error) from error
    except ValueError as error:
        raise ImageDecodeError(f"{path} is not a stack of images: {error}") from error
    content = ContentId(hashlib.sha256(entry.tobytes()).hexdigest())
    if graded_sha256 not in (None, content.sha256):
        raise _changed(content.sha256, graded_sha256)
    return Fetched(entry, content)


def _hash(data: bytes) -> str:
    return (hash_pixels(data) if is_dicom(data) else None) or _hash_bytes(data)


def _hash_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _changed(found: str, graded: str | None) -> ImageChangedError:
    return ImageChangedError(f"no longer the photograph that was graded: SHA-256 is {found}, was {graded}")
