"""A suspect image is alone in the process."""

import threading
import time

import pytest

from worker.inference.suspect_lock import Isolation


def test_many_enter_together() -> None:
    isolation = Isolation()
    barrier = threading.Barrier(3, timeout=5)

    def enter() -> None:
        with isolation.together():
            barrier.wait()

    threads = [threading.Thread(target=enter) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert not barrier.broken


def test_suspect_waits_until_it_is_alone_and_keeps_others_out() -> None:
    isolation = Isolation()
    order: list[str] = []
    inside = threading.Event()
    leave = threading.Event()

    def chunk() -> None:
        with isolation.together():
            inside.set()
            leave.wait(5)
            order.append("chunk left")

    def suspect() -> None:
        with isolation.alone():
            order.append("suspect entered")
            time.sleep(0.05)
            order.append("suspect left")

    def late() -> None:
        with isolation.together():
            order.append("late entered")

    threads = [threading.Thread(target=target) for target in (chunk, suspect, late)]
    threads[0].start()
    inside.wait(5)
    threads[1].start()
    time.sleep(0.05)
    threads[2].start()
    time.sleep(0.05)
    assert order == []
    leave.set()
    for thread in threads:
        thread.join(5)
    assert order == ["chunk left", "suspect entered", "suspect left", "late entered"]


def test_a_fault_inside_lets_the_next_one_in() -> None:
    isolation = Isolation()
    for enter in (isolation.alone, isolation.together, isolation.alone):
        with pytest.raises(ZeroDivisionError), enter():
            1 / 0  # noqa: B018
    with isolation.alone():
        pass
