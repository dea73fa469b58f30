"""Memory that decoding processes may use together, shared out by the size of the images."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from worker.core.errors import ImageError
from worker.imaging.headers.check import read_header
from worker.imaging.headers.header import ImageFormat

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE_MB = 32
JPEG_BYTES_PER_PIXEL = 8
"""A progressive JPEG keeps its coefficients at full size, whatever the scale; measured: 1 to 7 bytes."""
BYTES_PER_PIXEL = 10
"""Measured for PNG and TIFF: 8 bytes."""
ALPHA_BYTES_PER_PIXEL = 20
"""Measured for PNG with transparency: 18 bytes."""
DICOM_BYTES_PER_PIXEL = 32
"""Measured for DICOM: 24 bytes for uncompressed YBR, 9 for JPEG-LS and 8 for JPEG Lossless."""
_BYTES_PER_PIXEL = {ImageFormat.JPEG: JPEG_BYTES_PER_PIXEL, ImageFormat.DICOM: DICOM_BYTES_PER_PIXEL}


class MemoryBudget:
    """Semaphore over MiB for threads, first in, first out, so that small images do not delay a large one for ever."""

    def __init__(self, total_mb: int) -> None:
        self.total_mb = total_mb
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()
        self._used_mb = 0

    @property
    def used_mb(self) -> int:
        """MiB that are reserved at the moment."""
        return self._used_mb

    @property
    def waiting(self) -> int:
        """Number of threads that wait for memory."""
        return len(self._queue)

    @contextmanager
    def reserve(self, memory_mb: int) -> Iterator[None]:
        """Hold memory while the context is open; more than the total counts as the total, and so waits to be alone."""
        memory_mb = min(memory_mb, self.total_mb)
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            self._changed.wait_for(lambda: self._queue[0] is ticket and self._used_mb + memory_mb <= self.total_mb)
            self._queue.popleft()
            self._used_mb += memory_mb
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._used_mb -= memory_mb
                self._changed.notify_all()


def estimate_memory_mb(data: bytes, most_mb: int) -> int:
    """Return about how much memory decoding an image takes, by its header; at most `most_mb`.

    The header may lie, and the process has a limit for that. An image whose header is refused is not decoded.
    """
    try:
        header = read_header(data)
    except ImageError:
        return min(BASE_MB, most_mb)
    except Exception:  # noqa: BLE001 - hostile bytes; the decoding process reports what is wrong with them
        return most_mb
    bytes_per_pixel = _BYTES_PER_PIXEL.get(header.format, BYTES_PER_PIXEL)
    if header.has_alpha:
        bytes_per_pixel = ALPHA_BYTES_PER_PIXEL
    needed = header.width * header.height * bytes_per_pixel + len(data)
    return min(BASE_MB + needed // 2**20, most_mb)
