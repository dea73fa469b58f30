"""A worker that does not move is ended; one that works, waits for nothing, or has no broker is not."""

import time
from pathlib import Path

import pytest

from worker.core.errors import BrokerError
from worker.core.telemetry.heartbeat import read_heartbeats, remove_heartbeat
from worker.inference.activity_tracker import ActivityTracker
from worker.inference.watchdog import Watchdog

STUCK_AFTER_S = 0.1


@pytest.fixture(autouse=True)
def _own_heartbeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


class Ended(Exception):  # noqa: N818 - it stands for the end of the process
    pass


def end(reason: str) -> None:
    raise Ended(reason)


def make_watchdog(activity: ActivityTracker, waiting: int = 0) -> Watchdog:
    return Watchdog(activity, lambda: waiting, end=end, stuck_after_s=STUCK_AFTER_S, stalled_after_s=STUCK_AFTER_S)


def test_idle_worker_without_work_lives_and_beats() -> None:
    watchdog = make_watchdog(ActivityTracker())
    time.sleep(STUCK_AFTER_S)
    watchdog.check()
    assert len(read_heartbeats()) == 1
    remove_heartbeat()
    assert read_heartbeats() == []


def test_chunk_that_does_not_move_ends_the_worker_without_a_beat() -> None:
    activity = ActivityTracker()
    watchdog = make_watchdog(activity)
    with activity.track_chunk(), activity.track_chunk():
        watchdog.check()
        remove_heartbeat()
        time.sleep(STUCK_AFTER_S)
        with pytest.raises(Ended, match="2 chunks in flight made no progress for 0 s"):
            watchdog.check()
    assert read_heartbeats() == []


def test_chunk_that_moves_may_take_its_time() -> None:
    activity = ActivityTracker()
    watchdog = make_watchdog(activity)
    with activity.track_chunk():
        for _ in range(4):
            time.sleep(STUCK_AFTER_S * 0.7)
            activity.touch()
            watchdog.check()


def test_messages_that_nobody_takes_end_the_worker() -> None:
    watchdog = make_watchdog(ActivityTracker(), waiting=3)
    time.sleep(STUCK_AFTER_S)
    watchdog.check()  # they may have come a moment ago
    time.sleep(STUCK_AFTER_S)
    with pytest.raises(Ended, match="3 messages are queued and none was taken"):
        watchdog.check()


def test_messages_beside_a_worker_that_takes_some_do_not_end_it() -> None:
    activity = ActivityTracker()
    watchdog = make_watchdog(activity, waiting=3)
    for _ in range(4):
        watchdog.check()
        time.sleep(STUCK_AFTER_S * 0.7)
        with activity.track_chunk():
            pass


def test_broker_that_is_away_does_not_end_the_worker() -> None:
    def refuse() -> int:
        raise BrokerError("away")

    watchdog = Watchdog(ActivityTracker(), refuse, end=end, stalled_after_s=STUCK_AFTER_S)
    watchdog.check()
    time.sleep(STUCK_AFTER_S)
    watchdog.check()
    assert len(read_heartbeats()) == 1
