"""What is late is ended once, and what was in time never."""

import threading
from collections.abc import Iterator

import pytest

from worker.imaging.sandbox.deadlines import LOOKS_EVERY_S, Timekeeper


@pytest.fixture
def timekeeper() -> Iterator[Timekeeper]:
    timekeeper = Timekeeper()
    yield timekeeper
    timekeeper.stop()


def test_late_work_is_ended_once(timekeeper: Timekeeper) -> None:
    ends: list[bool] = []
    ended = threading.Event()

    def end() -> None:
        ends.append(watched.late)
        ended.set()

    with timekeeper.watching(LOOKS_EVERY_S / 2, end) as watched:
        assert ended.wait(20)
        ended.clear()
        assert not ended.wait(3 * LOOKS_EVERY_S)
    assert ends == [True]


def test_work_in_time_is_never_ended_and_neighbours_are_told_apart(timekeeper: Timekeeper) -> None:
    early, late = threading.Event(), threading.Event()
    with timekeeper.watching(0.0, late.set) as slow:
        with timekeeper.watching(60.0, early.set) as quick:
            assert late.wait(20)
        assert slow.late
    assert not quick.late
    assert not early.is_set()


def test_work_that_failed_is_watched_no_more(timekeeper: Timekeeper) -> None:
    ended = threading.Event()
    with pytest.raises(ValueError, match="broken"), timekeeper.watching(2 * LOOKS_EVERY_S, ended.set):
        raise ValueError("broken")
    assert not ended.wait(4 * LOOKS_EVERY_S)
