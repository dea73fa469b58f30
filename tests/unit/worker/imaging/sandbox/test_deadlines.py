"""What is expired is ended once, and what was in time never."""

import threading
from collections.abc import Iterator

import pytest

from worker.imaging.sandbox.deadlines import CHECK_INTERVAL_S, DeadlineMonitor


@pytest.fixture
def deadlines() -> Iterator[DeadlineMonitor]:
    deadlines = DeadlineMonitor()
    yield deadlines
    deadlines.stop()


def test_late_work_is_ended_once(deadlines: DeadlineMonitor) -> None:
    ends: list[bool] = []
    ended = threading.Event()

    def end() -> None:
        ends.append(deadline.expired)
        ended.set()

    with deadlines.enforce(CHECK_INTERVAL_S / 2, end) as deadline:
        assert ended.wait(20)
        ended.clear()
        assert not ended.wait(3 * CHECK_INTERVAL_S)
    assert ends == [True]


def test_work_in_time_is_never_ended_and_neighbours_are_told_apart(deadlines: DeadlineMonitor) -> None:
    early, expired = threading.Event(), threading.Event()
    with deadlines.enforce(0.0, expired.set) as slow:
        with deadlines.enforce(60.0, early.set) as quick:
            assert expired.wait(20)
        assert slow.expired
    assert not quick.expired
    assert not early.is_set()


def test_work_that_failed_is_watched_no_more(deadlines: DeadlineMonitor) -> None:
    ended = threading.Event()
    with pytest.raises(ValueError, match="broken"), deadlines.enforce(2 * CHECK_INTERVAL_S, ended.set):
        raise ValueError("broken")
    assert not ended.wait(4 * CHECK_INTERVAL_S)
