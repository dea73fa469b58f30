"""Deadlines of decoding processes and downloads, enforced by one thread instead of a timer thread for each of them."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from worker.core.periodic import PeriodicThread

CHECK_INTERVAL_S = 0.25


@dataclass(eq=False, slots=True)
class Deadline:
    """A deadline of one block; `expired` is set before `on_expiry` is called."""

    expires_at: float
    on_expiry: Callable[[], object]
    expired: bool = False


class DeadlineMonitor:
    """Enforce the deadlines of any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deadlines: set[Deadline] = set()
        self._thread = PeriodicThread("deadlines", self._expire_overdue, interval_s=CHECK_INTERVAL_S)

    @contextmanager
    def enforce(self, timeout_s: float, on_expiry: Callable[[], object]) -> Iterator[Deadline]:
        """Call `on_expiry` once if the block runs longer than `timeout_s`; at most CHECK_INTERVAL_S late.

        It is never called after the block has ended.
        """
        deadline = Deadline(time.monotonic() + timeout_s, on_expiry)
        with self._lock:
            self._deadlines.add(deadline)
        try:
            yield deadline
        finally:
            with self._lock:
                self._deadlines.discard(deadline)

    def stop(self) -> None:
        """Stop the thread; deadlines are no longer enforced."""
        self._thread.stop()

    def _expire_overdue(self) -> None:
        now = time.monotonic()
        with self._lock:
            for deadline in [one for one in self._deadlines if one.expires_at <= now]:
                self._deadlines.discard(deadline)
                deadline.expired = True
                deadline.on_expiry()
