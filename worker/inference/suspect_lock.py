"""Let a suspect image be the only one in the process, so that a crash names its culprit."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class SuspectLock:
    """Many chunks at once, or one suspect alone. A waiting suspect goes before new chunks."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._suspects = 0
        self._exclusive = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Enter beside others."""
        with self._changed:
            self._changed.wait_for(lambda: not self._suspects and not self._exclusive)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Enter when nobody is inside, and keep everybody out."""
        with self._changed:
            self._suspects += 1
            self._changed.wait_for(lambda: not self._inside and not self._exclusive)
            self._suspects -= 1
            self._exclusive = True
        try:
            yield
        finally:
            with self._changed:
                self._exclusive = False
                self._changed.notify_all()
