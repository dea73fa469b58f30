"""Limit the total time of a download: the timeout of a socket begins again with each byte."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Response(Protocol):
    """A response of urllib3, which boto3 uses, too."""

    def shutdown(self) -> None:
        """Stop reading from the socket."""


@contextmanager
def limit_time(response: Response, timeout_s: float) -> Iterator[None]:
    """Interrupt reads of the body after `timeout_s`: they raise as if the store had closed the connection."""
    timer = threading.Timer(max(0.0, timeout_s), _shut_down, [response])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut_down(response: Response) -> None:
    # RuntimeError: the body has been read at this moment. OSError: the store has closed the connection.
    with suppress(RuntimeError, OSError):
        response.shutdown()
