"""The watchdog ends a stuck or stalled worker, and no worker that is busy, idle or without a broker."""

from pathlib import Path

import pytest

from worker.core.errors import BrokerError
from worker.core.telemetry.heartbeat import read_heartbeats, remove_heartbeat
from worker.inference.activity_tracker import ActivityTracker
from worker.inference.watchdog import Watchdog

STUCK_AFTER_S = 300.0


class Clock:
    """A monotonic clock that only moves when a test calls `sleep`."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("watchdog", "activity_tracker"):
        monkeypatch.setattr(f"worker.inference.{module}.monotonic", lambda: clock.now)
    return clock


@pytest.fixture(autouse=True)
def _own_heartbeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


class Ended(Exception):  # noqa: N818 - stands for the exit of the process
    pass


def end(reason: str) -> None:
    raise Ended(reason)


def make_watchdog(activity: ActivityTracker, queued: int = 0) -> Watchdog:
    return Watchdog(activity, lambda: queued, end=end, stuck_after_s=STUCK_AFTER_S, stalled_after_s=STUCK_AFTER_S)


def test_idle_worker_with_empty_queues_keeps_its_heartbeat(time: Clock) -> None:
    watchdog = make_watchdog(ActivityTracker())
    time.sleep(STUCK_AFTER_S)
    watchdog.check()
    assert len(read_heartbeats()) == 1
    remove_heartbeat()
    assert read_heartbeats() == []


def test_stuck_chunk_ends_the_worker_without_a_heartbeat(time: Clock) -> None:
    activity = ActivityTracker()
    watchdog = make_watchdog(activity)
    with activity.track_chunk(), activity.track_chunk():
        watchdog.check()
        remove_heartbeat()
        time.sleep(STUCK_AFTER_S)
        with pytest.raises(Ended, match="2 chunks in flight made no progress for 300 s"):
            watchdog.check()
    assert read_heartbeats() == []


def test_slow_chunk_with_progress_does_not_end_the_worker(time: Clock) -> None:
    activity = ActivityTracker()
    watchdog = make_watchdog(activity)
    with activity.track_chunk():
        for _ in range(4):
            time.sleep(STUCK_AFTER_S * 0.7)
            activity.touch()
            watchdog.check()


def test_stalled_consumer_ends_the_worker(time: Clock) -> None:
    watchdog = make_watchdog(ActivityTracker(), queued=3)
    time.sleep(STUCK_AFTER_S)
    watchdog.check()  # the messages may be new
    time.sleep(STUCK_AFTER_S)
    with pytest.raises(Ended, match="3 messages are queued and none was taken"):
        watchdog.check()


def test_queued_messages_do_not_end_a_busy_worker(time: Clock) -> None:
    activity = ActivityTracker()
    watchdog = make_watchdog(activity, queued=3)
    for _ in range(4):
        watchdog.check()
        time.sleep(STUCK_AFTER_S * 0.7)
        with activity.track_chunk():
            pass


def test_unreachable_broker_does_not_end_the_worker(time: Clock) -> None:
    def refuse() -> int:
        raise BrokerError("unreachable")

    watchdog = Watchdog(ActivityTracker(), refuse, end=end, stalled_after_s=STUCK_AFTER_S)
    watchdog.check()
    time.sleep(STUCK_AFTER_S)
    watchdog.check()
    assert len(read_heartbeats()) == 1


def test_step_that_never_ends_ends_the_worker_although_others_make_progress(time: Clock) -> None:
    activity = ActivityTracker()
    watchdog = make_watchdog(activity)
    with activity.track_chunk() as hung, activity.track_chunk() as other, hung.track_step():
        time.sleep(STUCK_AFTER_S - 1)
        other.touch()
        with other.track_step():
            watchdog.check()
        time.sleep(1)
        other.touch()
        with pytest.raises(Ended, match="one step of a chunk in flight has not ended for 300 s"):
            watchdog.check()
