"""Track how many chunks are in flight, when any of them last made progress, and how long their steps take."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic


class ChunkActivity:
    """Activity of one chunk in flight."""

    def __init__(self, tracker: "ActivityTracker") -> None:
        self._tracker = tracker
        self._started: dict[object, float] = {}

    def touch(self) -> None:
        """Record that the chunk made progress."""
        self._tracker.touch()

    @contextmanager
    def track_step(self) -> Iterator[None]:
        """Measure the duration of a step of one image: a transfer, decoding, or drawing, without waiting before it."""
        step = object()
        self._started[step] = monotonic()
        try:
            yield
        finally:
            del self._started[step]

    @property
    def longest_step_s(self) -> float:
        """Seconds since the start of the oldest step that has not ended; 0 if none is in progress."""
        return monotonic() - min(self._started.copy().values(), default=monotonic())


class ActivityTracker:
    """Activity of one worker process, reported by its threads and read by the watchdog."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chunks: set[ChunkActivity] = set()
        self._touched_at = monotonic()

    @contextmanager
    def track_chunk(self) -> Iterator[ChunkActivity]:
        """Count a chunk, a report or a scheduled task as in flight while the context is open."""
        chunk = ChunkActivity(self)
        with self._lock:
            self._chunks.add(chunk)
        self.touch()
        try:
            yield chunk
        finally:
            with self._lock:
                self._chunks.remove(chunk)
            self.touch()

    def touch(self) -> None:
        """Record that work in flight made progress."""
        self._touched_at = monotonic()

    @property
    def chunks_in_flight(self) -> int:
        """Number of open `track_chunk` contexts."""
        return len(self._chunks)

    @property
    def idle_s(self) -> float:
        """Seconds since the last `touch`, start or end of a chunk."""
        return monotonic() - self._touched_at

    @property
    def longest_step_s(self) -> float:
        """Longest `longest_step_s` of the chunks in flight."""
        with self._lock:
            return max((chunk.longest_step_s for chunk in self._chunks), default=0.0)
