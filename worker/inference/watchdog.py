"""End a worker that is alive but no longer works, so that its supervisor starts another one.

Two things are known to stop a worker without ending it: a consumer that has lost its broker and never asks again, and
a call that never returns. Both look the same from here: there is work, and nothing moves.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import structlog

from worker.core.errors import BrokerError
from worker.core.telemetry.heartbeat import touch_heartbeat

STUCK_AFTER_S = 300.0
"""Longer than any step may take by its own timeouts, the slowest being a silent store's: 30 s of patience and 80 s."""
STALLED_AFTER_S = 60.0
"""A worker with nothing in flight takes a waiting message within a second. Kombu 5.7 never does again when its Redis
connection was replaced while all chunks were taken: it goes on listening to the old socket."""
EXIT_STUCK = 70
"""EX_SOFTWARE of sysexits.h."""

log = structlog.get_logger(__name__)


class ActivityTracker:
    """What the worker's threads tell about their work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chunks = 0
        self._moved_at = monotonic()

    @contextmanager
    def track_chunk(self) -> Iterator[None]:
        """A chunk is in flight."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def touch(self) -> None:
        """Something of a chunk in flight is done."""
        self._moved_at = monotonic()

    @property
    def chunks_in_flight(self) -> int:
        """Chunks in flight."""
        return self._chunks

    @property
    def idle_s(self) -> float:
        """Since the last step of any chunk, or since the last of them came or went."""
        return monotonic() - self._moved_at

    def _count(self, difference: int) -> None:
        with self._lock:
            self._chunks += difference
            self._moved_at = monotonic()


class Watchdog:
    """`look` is called again and again; it beats while all is well and calls `end` once with the reason if not."""

    def __init__(
        self,
        activity: ActivityTracker,
        waiting: Callable[[], int],
        *,
        end: Callable[[str], None],
        stuck_after_s: float = STUCK_AFTER_S,
        stalled_after_s: float = STALLED_AFTER_S,
    ) -> None:
        self._activity = activity
        self._waiting = waiting
        self._stuck_after_s = stuck_after_s
        self._stalled_after_s = stalled_after_s
        self._end = end
        self._idle_beside_work_since: float | None = None

    def check(self) -> None:
        """Judge the worker at this moment; a broker that is away is no fault of its own."""
        reason = self._stuck_chunk() if self._activity.chunks_in_flight else self._stalled_consumer()
        if reason is not None:
            self._end(reason)
            return
        touch_heartbeat()

    def _stuck_chunk(self) -> str | None:
        self._idle_beside_work_since = None
        idle_s = self._activity.idle_s
        if idle_s < self._stuck_after_s:
            return None
        return f"{self._activity.chunks_in_flight} chunks in flight, and nothing has moved for {idle_s:.0f} s"

    def _stalled_consumer(self) -> str | None:
        try:
            waiting = self._waiting()
        except BrokerError:
            waiting = 0
        if not waiting:
            self._idle_beside_work_since = None
            return None
        if self._idle_beside_work_since is None:
            self._idle_beside_work_since = monotonic()
        idle_for_s = min(monotonic() - self._idle_beside_work_since, self._activity.idle_s)
        if idle_for_s < self._stalled_after_s:
            return None
        return f"{waiting} messages wait, and none has been taken for {idle_for_s:.0f} s"


def end_process(reason: str) -> None:
    """Say why, and end at once: whatever is stuck would only hold up an orderly end. Leases run out by themselves."""
    log.error("stuck", reason=reason, exit_code=EXIT_STUCK)
    os._exit(EXIT_STUCK)
