"""A failing store gets one request at a time, and an answer about an object is no failure."""

from contextlib import suppress

import pytest

from worker.core.errors import ImageMissingError, ObjectRefusedError, StorageError, StoreBusyError, StoreDownError
from worker.inference.circuit_breaker import FAILURES_TO_OPEN, CircuitBreaker


class Clock:
    """A monotonic clock that only moves when a test sets it."""

    now = 1_000.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("worker.inference.circuit_breaker.monotonic", lambda: clock.now)
    return clock


def fail(breaker: CircuitBreaker, error: Exception) -> None:
    with suppress(type(error)), breaker.request():
        raise error


def open_breaker() -> CircuitBreaker:
    breaker = CircuitBreaker("s3://eyes/", patience_s=30)
    for _ in range(FAILURES_TO_OPEN):
        fail(breaker, StorageError("SlowDown (HTTP 503)"))
    return breaker


def test_failing_store_gets_one_request_at_a_time() -> None:
    breaker = open_breaker()
    busy = "s3://eyes/ failed 5 times in 0 s; another request probes it"
    with breaker.request(), pytest.raises(StorageError, match=busy):
        breaker.request().__enter__()
    with breaker.request(), breaker.request():
        pass


def test_failed_probe_lets_the_next_one_pass() -> None:
    breaker = open_breaker()
    fail(breaker, StorageError("SlowDown (HTTP 503)"))
    with breaker.request(), pytest.raises(StorageError):
        breaker.request().__enter__()


@pytest.mark.parametrize("answer", [ImageMissingError("no object"), ObjectRefusedError("AccessDenied (HTTP 403)")])
def test_answer_about_an_object_is_no_failure(answer: Exception) -> None:
    breaker = open_breaker()
    fail(breaker, answer)
    with breaker.request(), breaker.request():
        pass


def test_store_that_asks_to_wait_keeps_the_breaker_as_it_is() -> None:
    breaker = CircuitBreaker("dicomweb://pacs/", patience_s=30)
    for _ in range(2 * FAILURES_TO_OPEN):
        fail(breaker, StoreBusyError("HTTP 503, asks to wait 5 s", retry_after_s=5))
    with breaker.request(), breaker.request():
        pass

    breaker = open_breaker()
    fail(breaker, StoreBusyError("HTTP 503, asks to wait 5 s", retry_after_s=5))
    with breaker.request(), pytest.raises(StorageError, match="another request probes it"):
        breaker.request().__enter__()


def test_success_between_failures_keeps_the_breaker_closed() -> None:
    breaker = CircuitBreaker("s3://eyes/", patience_s=30)
    for _ in range(3):
        for _ in range(FAILURES_TO_OPEN - 1):
            fail(breaker, StorageError("SlowDown (HTTP 503)"))
        with breaker.request():
            pass
    with breaker.request(), breaker.request():
        pass


def test_store_is_down_once_it_fails_for_longer_than_the_patience(clock: Clock) -> None:
    breaker = open_breaker()
    clock.now += 31
    with pytest.raises(StoreDownError, match="SlowDown"):
        _fail_while_others_wait(breaker)
    with breaker.request():
        pass
    fail(breaker, StorageError("SlowDown (HTTP 503)"))


def _fail_while_others_wait(breaker: CircuitBreaker) -> None:
    with breaker.request():
        with pytest.raises(StoreDownError, match="failed 5 times in 31 s"):
            breaker.request().__enter__()
        raise StorageError("SlowDown (HTTP 503)")
