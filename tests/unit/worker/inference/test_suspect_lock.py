"""A suspect image runs alone in the process."""

import threading
import time

import pytest

from worker.inference.suspect_lock import SuspectLock


def test_shared_lock_has_many_holders() -> None:
    lock = SuspectLock()
    barrier = threading.Barrier(3, timeout=60)

    def enter() -> None:
        with lock.shared():
            barrier.wait()

    threads = [threading.Thread(target=enter) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not barrier.broken


def test_exclusive_lock_waits_for_holders_and_blocks_new_ones() -> None:
    lock = SuspectLock()
    order: list[str] = []
    inside = threading.Event()
    leave = threading.Event()

    def chunk() -> None:
        with lock.shared():
            inside.set()
            leave.wait(60)
            order.append("chunk left")

    def suspect() -> None:
        with lock.exclusive():
            order.append("suspect entered")
            time.sleep(0.05)
            order.append("suspect left")

    def late() -> None:
        with lock.shared():
            order.append("late entered")

    threads = [threading.Thread(target=target) for target in (chunk, suspect, late)]
    threads[0].start()
    inside.wait(60)
    threads[1].start()
    while not lock._exclusive_waiting:
        time.sleep(0.001)
    threads[2].start()
    assert order == []
    leave.set()
    for thread in threads:
        thread.join(60)
    assert order == ["chunk left", "suspect entered", "suspect left", "late entered"]


def test_failing_holder_releases_the_lock() -> None:
    lock = SuspectLock()
    for enter in (lock.exclusive, lock.shared, lock.exclusive):
        with pytest.raises(ZeroDivisionError), enter():
            1 / 0  # noqa: B018
    with lock.exclusive():
        pass
