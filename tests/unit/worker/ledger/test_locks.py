"""Locks in both databases, on the database clock."""

import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, select, update

from tests.services.process import HUNG_AFTER_S
from worker.core.errors import OverlapError
from worker.ledger.database import epoch_now, read_transaction, write_transaction
from worker.ledger.locks import LockResult, acquire_lock, locked, wait_for_fence
from worker.ledger.schema import locks


def steal(engine: Engine) -> None:
    with write_transaction(engine) as connection:
        connection.execute(update(locks).values(holder="thief", until=epoch_now() + 60))


def expiry(engine: Engine) -> float:
    with read_transaction(engine) as connection:
        return float(connection.scalar(select(locks.c.until)))


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + HUNG_AFTER_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_lock_has_one_holder_at_a_time(engine: Engine) -> None:
    assert acquire_lock(engine, "night", "one", 60) is LockResult.ACQUIRED
    assert acquire_lock(engine, "night", "two", 60) is LockResult.HELD_ELSEWHERE
    assert acquire_lock(engine, "night", "one", 60) is LockResult.RENEWED
    assert acquire_lock(engine, "morning", "two", 60) is LockResult.ACQUIRED


def test_lock_of_a_dead_holder_expires(engine: Engine) -> None:
    acquire_lock(engine, "night", "dead", 60)
    with (
        pytest.raises(OverlapError, match="lock 'night' is held by another process"),
        locked(engine, "night", lock_s=60),
    ):
        pass
    with write_transaction(engine) as connection:
        connection.execute(update(locks).values(until=epoch_now() - 1))
    with locked(engine, "night", lock_s=60):
        pass


def test_lock_is_released_when_the_context_raises(engine: Engine) -> None:
    with pytest.raises(ZeroDivisionError), locked(engine, "night", lock_s=60):
        raise ZeroDivisionError
    assert acquire_lock(engine, "night", "next", 60) is LockResult.ACQUIRED


def test_lock_is_renewed_while_it_is_held(engine: Engine) -> None:
    with locked(engine, "night", lock_s=6) as lock:
        first = expiry(engine)
        wait_for(lambda: expiry(engine) > first)
        lock.ensure_held()
        assert acquire_lock(engine, "night", "other", 60) is LockResult.HELD_ELSEWHERE


def test_lost_lock_raises_overlap_error(engine: Engine) -> None:
    with locked(engine, "night", lock_s=0.3) as lock:
        steal(engine)
        with pytest.raises(OverlapError, match="was lost"), write_transaction(engine) as connection:
            lock.fence(connection)
        with pytest.raises(OverlapError, match="was lost"):
            wait_for(lambda: lock.ensure_held())  # type: ignore[func-returns-value]
    with read_transaction(engine) as connection:
        assert connection.scalar(select(locks.c.holder)) == "thief"


def test_one_of_many_concurrent_callers_acquires_the_lock(engine: Engine) -> None:
    results = []

    def acquire(number: int) -> None:
        results.append(acquire_lock(engine, "night", str(number), 60))

    threads = [threading.Thread(target=acquire, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.name for result in results) == ["ACQUIRED"] + ["HELD_ELSEWHERE"] * 7


def test_wait_for_fence_waits_for_a_fenced_transaction(engine: Engine) -> None:
    order = []
    with locked(engine, "night", lock_s=60) as lock:

        def other() -> None:
            with write_transaction(engine) as connection:
                wait_for_fence(connection, "night")
                order.append("other")

        with write_transaction(engine) as connection:
            lock.fence(connection)
            thread = threading.Thread(target=other)
            thread.start()
            time.sleep(0.3)
            order.append("holder")
        thread.join()
    assert order == ["holder", "other"]
