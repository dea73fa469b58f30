"""Bring what threads have done to an event loop, several results at a time.

asyncio wakes its loop for each result by a write to a socket, and each time a thread that works and the loop's want the
interpreter at once. With five results for each image those turns cost as much as drawing it.
"""

import asyncio
from collections import deque
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class FutureBridge:
    """To one loop, from any number of threads."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._done: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()
        self._called = False

    async def wait(self, future: "Future[T]") -> T:
        """In the loop: what `asyncio.wrap_future` gives. A future that nobody waits for any more is cancelled."""
        waiter: asyncio.Future[T] = self._loop.create_future()
        future.add_done_callback(lambda done: self._put(waiter, done))
        try:
            return await waiter
        finally:
            future.cancel()

    def _put(self, waiter: "asyncio.Future[Any]", done: "Future[Any]") -> None:
        self._done.append((waiter, done))
        # Told twice is no harm; never told would be: the flag falls before the results are taken.
        if not self._called and not self._loop.is_closed():
            self._called = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._called = False
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
