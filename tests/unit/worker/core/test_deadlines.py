"""An overdue block expires once; a block that ends in time never does."""

import threading
from collections.abc import Iterator

import pytest

from worker.core.deadlines import CHECK_INTERVAL_S, DeadlineMonitor


@pytest.fixture
def deadlines() -> Iterator[DeadlineMonitor]:
    deadlines = DeadlineMonitor()
    yield deadlines
    deadlines.stop()


def test_overdue_block_expires_once(deadlines: DeadlineMonitor) -> None:
    calls: list[bool] = []
    called = threading.Event()

    def on_expiry() -> None:
        calls.append(deadline.expired)
        called.set()

    with deadlines.enforce(CHECK_INTERVAL_S / 2, on_expiry) as deadline:
        assert called.wait(20)
        called.clear()
        assert not called.wait(3 * CHECK_INTERVAL_S)
    assert calls == [True]


def test_block_in_time_does_not_expire_with_its_neighbour(deadlines: DeadlineMonitor) -> None:
    quick_expired, slow_expired = threading.Event(), threading.Event()
    with deadlines.enforce(0.0, slow_expired.set) as slow:
        with deadlines.enforce(60.0, quick_expired.set) as quick:
            assert slow_expired.wait(20)
        assert slow.expired
    assert not quick.expired
    assert not quick_expired.is_set()


def test_block_that_raised_does_not_expire_later(deadlines: DeadlineMonitor) -> None:
    expired = threading.Event()
    with pytest.raises(ValueError, match="broken"), deadlines.enforce(2 * CHECK_INTERVAL_S, expired.set):
        raise ValueError("broken")
    assert not expired.wait(4 * CHECK_INTERVAL_S)
