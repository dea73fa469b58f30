"""Retry a call while a service fails."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from worker.core.errors import ObjectRefusedError, ServiceError, StoreBusyError, StoreDownError

DOWN_ATTEMPTS = 4
"""Attempts at a store that is known to be down, in about a second: they slow down how fast a worker releases images."""

MAX_WAIT_S = 30.0

T = TypeVar("T")
_BACKOFF = wait_random_exponential(multiplier=0.1, max=5)


def retry_service_errors(work: Callable[[], T], *, timeout_s: float) -> T:
    """Call `work` until it raises no ServiceError, with random exponential backoff of at most 5 s.

    A store that asks to wait gets that time, up to MAX_WAIT_S, before the backoff.

    Raises the last ServiceError after `timeout_s`, and every other exception at once.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(ServiceError),
        wait=_wait_s,
        stop=stop_after_delay(timeout_s),
        reraise=True,
    )
    return retrying(work)


async def retry_transfer(work: Callable[[], Awaitable[T]], *, timeout_s: float) -> T:
    """Call `work` until it raises no ServiceError, as `retry_service_errors` does; the event loop runs meanwhile.

    An ObjectRefusedError is raised at once, and a StoreDownError after DOWN_ATTEMPTS attempts.
    """
    retrying = AsyncRetrying(
        retry=retry_if_exception(
            lambda error: isinstance(error, ServiceError) and not isinstance(error, ObjectRefusedError)
        ),
        wait=_wait_s,
        stop=stop_after_delay(timeout_s) | _StopIfDown(),
        reraise=True,
    )
    return await retrying(work)


def _wait_s(retry_state: RetryCallState) -> float:
    error = None if retry_state.outcome is None else retry_state.outcome.exception()
    asked_s = error.retry_after_s if isinstance(error, StoreBusyError) else 0.0
    return min(asked_s, MAX_WAIT_S) + _BACKOFF(retry_state)


class _StopIfDown(stop_base):
    def __call__(self, retry_state: RetryCallState) -> bool:
        error = None if retry_state.outcome is None else retry_state.outcome.exception()
        return isinstance(error, StoreDownError) and retry_state.attempt_number >= DOWN_ATTEMPTS
