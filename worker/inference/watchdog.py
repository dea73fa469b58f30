"""End a worker process that is alive but no longer works, so that its supervisor restarts it.

Two causes are known: a consumer that lost its broker connection and never fetches again, and a call that never returns.
"""

import os
from collections.abc import Callable
from time import monotonic

import structlog

from worker.core.errors import BrokerError
from worker.core.telemetry.heartbeat import touch_heartbeat
from worker.inference.activity_tracker import ActivityTracker

STUCK_AFTER_S = 300.0
"""Idle time of all chunks in flight, or duration of one step, that ends the worker.

It exceeds the timeout of every step, of which a slow download has the longest.
"""
STALLED_AFTER_S = 60.0
"""Idle time of a worker with nothing in flight, while messages are queued, that ends it.

A healthy worker takes a queued message within a second. With Kombu 5.7 a worker stalls forever if its Redis connection
is replaced while all its slots are in use: Kombu keeps polling the old socket.
"""
EXIT_STUCK = 70
"""Exit status EX_SOFTWARE of sysexits.h."""

log = structlog.get_logger(__name__)


class Watchdog:
    """Detects chunks that make no progress, a step that never ends, and a stalled consumer."""

    def __init__(
        self,
        activity: ActivityTracker,
        count_queued: Callable[[], int],
        *,
        end: Callable[[str], None],
        stuck_after_s: float = STUCK_AFTER_S,
        stalled_after_s: float = STALLED_AFTER_S,
    ) -> None:
        """Watch `activity`.

        count_queued: returns the number of messages on the queues of this worker; may raise BrokerError.
        end: called with the reason when the worker is stuck or stalled.
        """
        self._activity = activity
        self._count_queued = count_queued
        self._stuck_after_s = stuck_after_s
        self._stalled_after_s = stalled_after_s
        self._end = end
        self._queued_since: float | None = None

    def check(self) -> None:
        """Touch the heartbeat of a healthy worker; call `end` for one that is stuck or stalled.

        Call it every few seconds. An unreachable broker is not a fault of the worker.
        """
        reason = self._find_stuck_chunk() if self._activity.chunks_in_flight else self._find_stalled_consumer()
        if reason is not None:
            self._end(reason)
            return
        touch_heartbeat()

    def _find_stuck_chunk(self) -> str | None:
        self._queued_since = None
        step_s = self._activity.longest_step_s
        if step_s >= self._stuck_after_s:
            return f"one step of a chunk in flight has not ended for {step_s:.0f} s"
        idle_s = self._activity.idle_s
        if idle_s < self._stuck_after_s:
            return None
        return f"{self._activity.chunks_in_flight} chunks in flight made no progress for {idle_s:.0f} s"

    def _find_stalled_consumer(self) -> str | None:
        try:
            queued = self._count_queued()
        except BrokerError:
            queued = 0
        if not queued:
            self._queued_since = None
            return None
        if self._queued_since is None:
            self._queued_since = monotonic()
        idle_s = min(monotonic() - self._queued_since, self._activity.idle_s)
        if idle_s < self._stalled_after_s:
            return None
        return f"stalled consumer: {queued} messages are queued and none was taken for {idle_s:.0f} s"


def end_process(reason: str) -> None:
    """Log the reason and exit at once with EXIT_STUCK.

    An orderly shutdown would wait for the stuck call. Leases of images in flight expire on their own.
    """
    log.error("stuck", reason=reason, exit_code=EXIT_STUCK)
    os._exit(EXIT_STUCK)
