"""A suspect image runs alone in the process, and urgent chunks pass between two suspects."""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from queue import SimpleQueue

import pytest

from tests.services.process import HUNG_AFTER_S
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


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + HUNG_AFTER_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Holders:
    """Threads that each hold a lock until the test lets them leave."""

    def __init__(self) -> None:
        self.entered: SimpleQueue[str] = SimpleQueue()
        self._leave: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []

    def start(self, name: str, enter: Callable[[], AbstractContextManager[None]]) -> None:
        leave = self._leave[name] = threading.Event()

        def hold() -> None:
            with enter():
                self.entered.put(name)
                leave.wait(HUNG_AFTER_S)

        self._threads.append(threading.Thread(target=hold, daemon=True))
        self._threads[-1].start()

    def next(self) -> str:
        """Wait until another thread holds the lock."""
        return self.entered.get(timeout=HUNG_AFTER_S)

    def leave(self, *names: str) -> None:
        for name in names:
            self._leave[name].set()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(HUNG_AFTER_S)
        assert self.entered.empty()


def test_urgent_chunks_enter_between_two_suspects() -> None:
    lock, holders = SuspectLock(), Holders()
    holders.start("suspect 1", lock.exclusive)
    assert holders.next() == "suspect 1"
    for number in (2, 3):
        holders.start(f"suspect {number}", lock.exclusive)
    wait_until(lambda: lock._exclusive_waiting == 2)
    holders.start("bulk", lock.shared)
    for name in ("clinic a", "clinic b"):
        holders.start(name, lambda: lock.shared(urgent=True))
    wait_until(lambda: lock._urgent_waiting == 2)
    holders.leave("suspect 1")
    assert {holders.next(), holders.next()} == {"clinic a", "clinic b"}
    assert holders.entered.empty()
    holders.leave("clinic a", "clinic b")
    order = [holders.next()]
    holders.leave(*order)
    order.append(holders.next())
    holders.leave(*order)
    assert set(order) == {"suspect 2", "suspect 3"}
    assert holders.next() == "bulk"
    holders.leave("bulk")
    holders.join()


def test_suspect_waits_for_one_group_of_urgent_chunks_only() -> None:
    lock, holders = SuspectLock(), Holders()
    holders.start("suspect 1", lock.exclusive)
    assert holders.next() == "suspect 1"
    holders.start("clinic a", lambda: lock.shared(urgent=True))
    wait_until(lambda: lock._urgent_waiting == 1)
    holders.start("suspect 2", lock.exclusive)
    wait_until(lambda: lock._exclusive_waiting == 1)
    holders.leave("suspect 1")
    assert holders.next() == "clinic a"
    holders.start("clinic b", lambda: lock.shared(urgent=True))
    wait_until(lambda: lock._urgent_waiting == 1)
    holders.leave("clinic a")
    assert holders.next() == "suspect 2"
    holders.leave("suspect 2")
    assert holders.next() == "clinic b"
    holders.leave("clinic b")
    holders.join()


def test_urgent_chunk_does_not_wait_for_a_suspect_that_waits_for_a_bulk_chunk() -> None:
    lock, holders = SuspectLock(), Holders()
    holders.start("bulk", lock.shared)
    assert holders.next() == "bulk"
    holders.start("suspect", lock.exclusive)
    wait_until(lambda: lock._exclusive_waiting == 1)
    holders.start("clinic", lambda: lock.shared(urgent=True))
    assert holders.next() == "clinic"
    holders.leave("bulk", "clinic")
    assert holders.next() == "suspect"
    holders.leave("suspect")
    holders.join()


def test_urgent_suspect_is_next() -> None:
    lock, holders = SuspectLock(), Holders()
    holders.start("suspect 1", lock.exclusive)
    assert holders.next() == "suspect 1"
    holders.start("suspect 2", lock.exclusive)
    wait_until(lambda: lock._exclusive_waiting == 1)
    holders.start("clinic's suspect", lambda: lock.exclusive(urgent=True))
    wait_until(lambda: lock._exclusive_waiting == 2)
    holders.leave("suspect 1")
    assert holders.next() == "clinic's suspect"
    holders.leave("clinic's suspect")
    assert holders.next() == "suspect 2"
    holders.leave("suspect 2")
    holders.join()
