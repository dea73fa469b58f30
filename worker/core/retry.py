"""Retry a call while a service fails."""

from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from worker.core.errors import ServiceError

T = TypeVar("T")


def retry_service_errors(work: Callable[[], T], *, timeout_s: float) -> T:
    """Call `work` until it raises no ServiceError, with random exponential backoff of at most 5 s.

    Raises the last ServiceError after `timeout_s`, and every other exception at once.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(ServiceError),
        wait=wait_random_exponential(multiplier=0.1, max=5),
        stop=stop_after_delay(timeout_s),
        reraise=True,
    )
    return retrying(work)
