"""One thread that ends what takes too long; a timer for each picture would be a thread for each picture."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from worker.core.periodic import PeriodicThread

CHECK_INTERVAL_S = 0.25


@dataclass(eq=False, slots=True)
class Deadline:
    """`expired` is set before `end` is called."""

    due: float
    end: Callable[[], object]
    expired: bool = False


class DeadlineMonitor:
    """Any number of threads may have their work deadline."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: set[Deadline] = set()
        self._periodic = PeriodicThread("deadlines", self._look, interval_s=CHECK_INTERVAL_S)

    @contextmanager
    def enforce(self, timeout_s: float, end: Callable[[], object]) -> Iterator[Deadline]:
        """Calls `end` once, up to CHECK_INTERVAL_S after the timeout, unless the block is left before; never after."""
        deadline = Deadline(time.monotonic() + timeout_s, end)
        with self._lock:
            self._watched.add(deadline)
        try:
            yield deadline
        finally:
            with self._lock:
                self._watched.discard(deadline)

    def stop(self) -> None:
        """Nothing is ended any more."""
        self._periodic.stop()

    def _look(self) -> None:
        now = time.monotonic()
        with self._lock:
            for deadline in [one for one in self._watched if one.due <= now]:
                self._watched.discard(deadline)
                deadline.expired = True
                deadline.end()
