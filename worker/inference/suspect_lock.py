"""Shared and exclusive lock: a suspect image runs alone in the process, so that a crash identifies it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class SuspectLock:
    """Many holders of the shared lock, or one of the exclusive lock. Waiting exclusive holders have priority.

    After a crash there may be a hundred suspects, so urgent holders enter between two of them: those that wait when a
    suspect leaves hold the lock before the next suspect. Later ones wait for that suspect, which they would otherwise
    delay without end.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._bulk_holders = 0
        self._urgent_holders = 0
        self._exclusive_held = False
        self._exclusive_waiting = 0
        self._urgent_exclusive_waiting = 0
        self._urgent_waiting = 0
        self._admitted = 0
        """Urgent waiters that go before the next exclusive holder."""
        self._phase = 0
        """Number of exclusive holders that have left."""

    @contextmanager
    def shared(self, *, urgent: bool = False) -> Iterator[None]:
        """Hold the lock together with other shared holders."""
        with self._changed:
            if urgent:
                self._wait_urgent()
                self._urgent_holders += 1
            else:
                self._changed.wait_for(lambda: not self._exclusive_waiting and not self._exclusive_held)
                self._bulk_holders += 1
        try:
            yield
        finally:
            with self._changed:
                if urgent:
                    self._urgent_holders -= 1
                else:
                    self._bulk_holders -= 1
                self._changed.notify_all()

    @contextmanager
    def exclusive(self, *, urgent: bool = False) -> Iterator[None]:
        """Hold the lock alone: wait until all holders have left, and block new ones. Urgent ones go first."""
        with self._changed:
            self._exclusive_waiting += 1
            self._urgent_exclusive_waiting += urgent
            self._changed.wait_for(lambda: self._is_free() and (urgent or not self._urgent_exclusive_waiting))
            self._exclusive_waiting -= 1
            self._urgent_exclusive_waiting -= urgent
            self._exclusive_held = True
        try:
            yield
        finally:
            with self._changed:
                self._exclusive_held = False
                self._admitted = self._urgent_waiting
                self._phase += 1
                self._changed.notify_all()

    def _wait_urgent(self) -> None:
        arrived = self._phase
        self._urgent_waiting += 1
        # While bulk chunks hold the lock, no exclusive holder could enter: nobody is delayed.
        self._changed.wait_for(
            lambda: (
                not self._exclusive_held
                and (not self._exclusive_waiting or self._bulk_holders > 0 or self._phase != arrived)
            )
        )
        self._urgent_waiting -= 1
        if self._phase != arrived:
            self._admitted -= 1

    def _is_free(self) -> bool:
        return not (self._bulk_holders or self._urgent_holders or self._exclusive_held or self._admitted)
