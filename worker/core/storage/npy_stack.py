"""Read stacks of preprocessed images.

Entries are read with `pread`, not mapped into memory: if another program truncates a mapped file, the next access ends
the whole process with SIGBUS.
"""

from __future__ import annotations

import errno
import math
import os
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy_format

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

HEADER_READERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
"""Readers by format version; 3.0 is for field names in Unicode, which images do not have."""


class NpyStack:
    """An open `.npy` file that holds (N, H, W, 3) uint8 or float32."""

    def __init__(self, file: IO[bytes]) -> None:
        """Read the header; nothing is unpickled. Raises OSError, and ValueError for any other content."""
        self._file = file
        self.shape, self.dtype = _read_header(file)
        self._start = file.tell()
        self.entry_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        self._version = size, _ = self._read_version()
        needed = self._start + len(self) * self.entry_bytes
        if size < needed:
            raise ValueError(f"file has {size:,} bytes; its header declares {needed:,}")

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, index: int) -> NDArray[np.uint8] | NDArray[np.float32]:
        """Return entry `index`, (H, W, 3).

        Raises OSError, also if the file has been modified since it was opened.
        """
        data = bytearray(self.entry_bytes)
        rest, offset = memoryview(data), self._start + index * self.entry_bytes
        while count := os.preadv(self._file.fileno(), [rest], offset):
            rest, offset = rest[count:], offset + count
        if rest or self._read_version() != self._version:
            raise OSError(errno.ESTALE, "file was modified while it was read")
        entry: NDArray[Any] = np.frombuffer(data, self.dtype).reshape(self.shape[1:])
        return entry

    def _read_version(self) -> tuple[int, int]:
        """Return size in bytes and time of the last modification in nanoseconds."""
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns


@contextmanager
def open_stack(path: Path) -> Iterator[NpyStack]:
    """Open a stack. Raises OSError, and ValueError for a file that is not a stack of images."""
    with path.open("rb") as file:
        yield NpyStack(file)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.uint8] | np.dtype[np.float32]]:
    try:
        shape, fortran_order, dtype = HEADER_READERS[npy_format.read_magic(file)](file)
    except (OSError, ValueError):
        raise
    except KeyError as error:
        raise ValueError(f"format version is {error}, must be (1, 0) or (2, 0)") from None
    except Exception as error:
        # NumPy's header parser raises various exceptions for hostile input.
        raise ValueError(f"invalid header: {error}") from error
    is_supported = dtype in (np.dtype(np.uint8), np.dtype(np.float32))
    if not is_supported or len(shape) != 4 or shape[3] != 3 or min(shape) < 0 or 0 in shape[1:]:
        raise ValueError(f"array is {dtype} {shape}, must be uint8 or float32 (N, H, W, 3)")
    if fortran_order:
        raise ValueError("array is in Fortran order; fix: save numpy.ascontiguousarray(stack)")
    return shape, dtype
