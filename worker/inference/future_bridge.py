"""Await futures of threads in an event loop, with one wake-up of the loop for many results.

`asyncio.wrap_future` writes to a socket for each result. Each write makes a busy thread and the loop's thread compete
for the interpreter lock; at five results per image this cost as much as rendering the overlay.
"""

import asyncio
from collections import deque
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class FutureBridge:
    """Bridge from any number of threads to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._done: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()
        self._wake_scheduled = False

    async def wait(self, future: "Future[T]") -> T:
        """Return the result of `future`, as `asyncio.wrap_future` does; call it in the loop.

        Cancels `future` when the waiting task is cancelled.
        """
        waiter: asyncio.Future[T] = self._loop.create_future()
        future.add_done_callback(lambda done: self._put(waiter, done))
        try:
            return await waiter
        finally:
            future.cancel()

    def _put(self, waiter: "asyncio.Future[Any]", done: "Future[Any]") -> None:
        self._done.append((waiter, done))
        # `_deliver` clears the flag before it reads the results: an extra wake-up is harmless, a missing one hangs.
        if not self._wake_scheduled and not self._loop.is_closed():
            self._wake_scheduled = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._wake_scheduled = False
        while self._done:
            waiter, done = self._done.popleft()
            if waiter.done():
                continue
            if done.cancelled():
                waiter.cancel()
            elif (error := done.exception()) is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(done.result())
