"""A periodic thread keeps running when a call fails."""

import threading
import time

import pytest

from worker.core.errors import DatabaseError
from worker.core.periodic import PeriodicThread


@pytest.mark.parametrize("error", [DatabaseError("away"), ValueError("a bug")])
def test_failed_call_is_followed_by_the_next(error: Exception) -> None:
    third = threading.Event()
    calls: list[int] = []

    def work() -> None:
        calls.append(len(calls))
        if len(calls) == 3:
            third.set()
        raise error

    thread = PeriodicThread("work", work, interval_s=0.01)
    assert third.wait(60)
    thread.stop()
    assert calls[:3] == [0, 1, 2]


def test_failed_call_is_repeated_before_the_interval_ends() -> None:
    """A lease that could not be renewed must not wait for the next interval."""
    second = threading.Event()
    calls: list[float] = []

    def work() -> None:
        calls.append(time.monotonic())
        if len(calls) == 1:
            raise DatabaseError("away")
        second.set()

    thread = PeriodicThread("work", work, interval_s=1.5, retry_after_s=0.01)
    assert second.wait(60)
    thread.stop()
    assert calls[1] - calls[0] < 1.5


def test_stopped_thread_makes_no_more_calls() -> None:
    calls: list[int] = []
    thread = PeriodicThread("work", lambda: calls.append(1), interval_s=0.01)
    thread.stop()
    had = len(calls)
    threading.Event().wait(0.05)
    assert len(calls) == had
