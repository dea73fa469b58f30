"""Limit the total time of a download: the timeout of a socket begins again with each byte."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.response import StreamingBody


@contextmanager
def limit_time(body: StreamingBody, timeout_s: float) -> Iterator[None]:
    """Interrupt reads of the body after `timeout_s`: they raise as if the store had closed the connection."""
    timer = threading.Timer(max(0.0, timeout_s), _shut_down, [body])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut_down(body: StreamingBody) -> None:
    # RuntimeError: the body has been read at this moment. OSError: the store has closed the connection.
    with suppress(RuntimeError, OSError):
        # botocore does not expose this method of urllib3.
        body._raw_stream.shutdown()  # type: ignore[attr-defined]  # noqa: SLF001
