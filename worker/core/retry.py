"""Try again while a service fails, for as long as patience lasts."""

from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from worker.core.errors import ServiceError

T = TypeVar("T")


def persist(work: Callable[[], T], *, patience_s: float) -> T:
    """`work()` again after each ServiceError until it succeeds or `patience_s` has passed; then the last error."""
    retrying = Retrying(
        retry=retry_if_exception_type(ServiceError),
        wait=wait_random_exponential(multiplier=0.1, max=5),
        stop=stop_after_delay(patience_s),
        reraise=True,
    )
    return retrying(work)
