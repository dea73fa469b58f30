"""Shared and exclusive lock: a suspect image runs alone in the process, so that a crash identifies it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class SuspectLock:
    """Many holders of the shared lock, or one of the exclusive lock. Waiting exclusive holders have priority."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._shared_holders = 0
        self._exclusive_waiting = 0
        self._exclusive_held = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the lock together with other shared holders."""
        with self._changed:
            self._changed.wait_for(lambda: not self._exclusive_waiting and not self._exclusive_held)
            self._shared_holders += 1
        try:
            yield
        finally:
            with self._changed:
                self._shared_holders -= 1
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock alone: wait until all holders have left, and block new ones."""
        with self._changed:
            self._exclusive_waiting += 1
            self._changed.wait_for(lambda: not self._shared_holders and not self._exclusive_held)
            self._exclusive_waiting -= 1
            self._exclusive_held = True
        try:
            yield
        finally:
            with self._changed:
                self._exclusive_held = False
                self._changed.notify_all()
