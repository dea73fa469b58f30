"""Limit the total time of a download: the timeout of a socket begins again with each byte."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Protocol

from worker.core.deadlines import DeadlineMonitor

if TYPE_CHECKING:
    from collections.abc import Iterator


class Response(Protocol):
    """A response of urllib3, which boto3 uses, too."""

    def shutdown(self) -> None:
        """Stop reading from the socket."""


@contextmanager
def limit_time(response: Response, timeout_s: float) -> Iterator[None]:
    """Interrupt reads of the body after `timeout_s`: they raise as if the store had closed the connection."""

    def shut_down() -> None:
        # RuntimeError: the body has been read at this moment. OSError: the store has closed the connection.
        with suppress(RuntimeError, OSError):
            response.shutdown()

    with _deadlines().enforce(timeout_s, shut_down):
        yield


@cache
def _deadlines() -> DeadlineMonitor:
    """Return the monitor of all downloads of this process; its thread starts with the first one."""
    return DeadlineMonitor()
