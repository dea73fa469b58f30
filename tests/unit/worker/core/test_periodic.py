"""A duty goes on whatever befalls one of its turns."""

import threading

import pytest

from worker.core.errors import DatabaseError
from worker.core.periodic import Periodic


@pytest.mark.parametrize("fault", [DatabaseError("away"), ValueError("a fault of ours")])
def test_failed_turn_is_followed_by_the_next(fault: Exception) -> None:
    third = threading.Event()
    turns: list[int] = []

    def duty() -> None:
        turns.append(len(turns))
        if len(turns) == 3:
            third.set()
        raise fault

    periodic = Periodic("duty", duty, every_s=0.01)
    assert third.wait(5)
    periodic.stop()
    assert turns[:3] == [0, 1, 2]


def test_failed_turn_is_made_up_for_soon() -> None:
    """A lease that could not be renewed must not wait for the next turn in order."""
    second = threading.Event()
    turns: list[int] = []

    def duty() -> None:
        turns.append(len(turns))
        if len(turns) == 1:
            raise DatabaseError("away")
        second.set()

    periodic = Periodic("duty", duty, every_s=1.5, again_after_s=0.01)
    assert second.wait(2)
    periodic.stop()


def test_stopped_duty_has_no_more_turns() -> None:
    turns: list[int] = []
    periodic = Periodic("duty", lambda: turns.append(1), every_s=0.01)
    periodic.stop()
    had = len(turns)
    threading.Event().wait(0.05)
    assert len(turns) == had
