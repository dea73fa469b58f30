"""Track how many chunks are in flight and when any of them last made progress."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic


class ActivityTracker:
    """Activity of one worker process, reported by its threads and read by the watchdog."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chunks = 0
        self._touched_at = monotonic()

    @contextmanager
    def track_chunk(self) -> Iterator[None]:
        """Count a chunk, a report or a scheduled task as in flight while the context is open."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def touch(self) -> None:
        """Record that work in flight made progress."""
        self._touched_at = monotonic()

    @property
    def chunks_in_flight(self) -> int:
        """Number of open `track_chunk` contexts."""
        return self._chunks

    @property
    def idle_s(self) -> float:
        """Seconds since the last `touch`, start or end of a chunk."""
        return monotonic() - self._touched_at

    def _count(self, difference: int) -> None:
        with self._lock:
            self._chunks += difference
            self._touched_at = monotonic()
