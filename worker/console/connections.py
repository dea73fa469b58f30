"""Bound the connections of the console: a client that sends or reads slowly keeps no place that others need."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_WAITING = 200
"""Number of connections without a complete request; one more ends the connection that has waited longest."""
REQUEST_TIMEOUT_S = 20.0
"""Time for a whole request, from its first byte or from the start of the connection."""
READ_TIMEOUT_S = 60.0
"""Time in which a client must read the part of a response that the server holds ready."""


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 with limits on connections that are half-open: their request is incomplete, or they do not read."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.waiting_since = 0.0
        self._request_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._begin_waiting()
        self._start_request_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._stop_request_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Run the timer from the first byte of a request to its last."""
        if self._request_timer is None and self.is_waiting():
            self._start_request_timer()
        super().data_received(data)
        if not self.is_waiting():
            self._stop_request_timer()

    def on_response_complete(self) -> None:
        """Wait for the next request on the same connection."""
        super().on_response_complete()
        if self.is_waiting():
            self._begin_waiting()

    def pause_writing(self) -> None:
        """Start the timer of a client that reads more slowly than the response is written."""
        super().pause_writing()
        self._read_timer = self.loop.call_later(READ_TIMEOUT_S, self.abort)

    def resume_writing(self) -> None:
        """Stop the timer: the client has read."""
        super().resume_writing()
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def is_waiting(self) -> bool:
        """Whether the connection waits for the end or the begin of a request."""
        return not self.transport.is_closing() and self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    def _begin_waiting(self) -> None:
        self.waiting_since = self.loop.time()
        waiting = [one for one in self.connections if isinstance(one, BoundedProtocol) and one.is_waiting()]
        if len(waiting) > MAX_WAITING:
            min(waiting, key=lambda one: one.waiting_since).abort()

    def _start_request_timer(self) -> None:
        self._request_timer = self.loop.call_later(REQUEST_TIMEOUT_S, self.abort)

    def _stop_request_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def abort(self) -> None:
        """End the connection without sending what is buffered."""
        self.connections.discard(self)
        self.transport.abort()
