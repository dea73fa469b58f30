"""One thread that ends what takes too long; a timer for each picture would be a thread for each picture."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from worker.core.periodic import Periodic

LOOKS_EVERY_S = 0.25


@dataclass(eq=False, slots=True)
class Watched:
    """`late` is set before `end` is called."""

    due: float
    end: Callable[[], object]
    late: bool = False


class Timekeeper:
    """Any number of threads may have their work watched."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: set[Watched] = set()
        self._periodic = Periodic("timekeeper", self._look, every_s=LOOKS_EVERY_S)

    @contextmanager
    def watching(self, timeout_s: float, end: Callable[[], object]) -> Iterator[Watched]:
        """Calls `end` once, up to LOOKS_EVERY_S after the timeout, unless the block is left before; never after."""
        watched = Watched(time.monotonic() + timeout_s, end)
        with self._lock:
            self._watched.add(watched)
        try:
            yield watched
        finally:
            with self._lock:
                self._watched.discard(watched)

    def stop(self) -> None:
        """Nothing is ended any more."""
        self._periodic.stop()

    def _look(self) -> None:
        now = time.monotonic()
        with self._lock:
            for watched in [one for one in self._watched if one.due <= now]:
                self._watched.discard(watched)
                watched.late = True
                watched.end()
