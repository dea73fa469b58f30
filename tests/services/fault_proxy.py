"""TCP proxy that injects faults of a network or a server into connections."""

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

PIECE = 16_384
SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
HTTP_503 = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\n%sContent-Length: %d\r\n\r\n%s"
)


@dataclass(frozen=True)
class Fault:
    """Fault of one connection.

    reset: reset on accept. stall: accept, but send nothing. unavailable: HTTP 503, with the header
    Retry-After if `retry_after_s` is given, then close.
    cut: reset after `after_bytes` bytes of the server. end: close in an orderly way after `after_bytes` bytes.
    slow: delay each piece of the response by `delay_s`. flip: invert every `after_bytes`-th byte of the server.
    """

    kind: Literal["reset", "stall", "unavailable", "cut", "end", "slow", "flip"]
    after_bytes: int = 0
    delay_s: float = 0.0
    retry_after_s: int | None = None


class FaultProxy:
    """Forwards connections to a port of loopback and injects the current fault."""

    def __init__(self, upstream_port: int, loop: asyncio.AbstractEventLoop) -> None:
        self._upstream_port = upstream_port
        self._loop = loop
        self._open: set[asyncio.StreamWriter] = set()
        self._fault: Fault | None = None
        self._times: int | None = None
        self.port = 0
        self.faults = 0
        """Connections that were faulty since the last `inject`."""

    def inject(self, fault: Fault | None, *, times: int | None = None) -> None:
        """Reset every connection, and apply `fault` to the next `times` ones, or to all until the next call."""

        async def change() -> None:
            self._fault, self._times, self.faults = fault, times, 0
            for writer in list(self._open):
                _reset(writer)

        asyncio.run_coroutine_threadsafe(change(), self._loop).result(5)

    async def serve(self) -> asyncio.Server:
        server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fault = self._next_fault()
        self._open.add(writer)
        try:
            match fault:
                case Fault(kind="reset"):
                    _reset(writer)
                case Fault(kind="stall"):
                    while await reader.read(PIECE):
                        pass
                case Fault(kind="unavailable"):
                    await reader.read(PIECE)
                    seconds = fault.retry_after_s
                    header = b"" if seconds is None else b"Retry-After: %d\r\n" % seconds
                    writer.write(HTTP_503 % (header, len(SLOW_DOWN), SLOW_DOWN))
                    await writer.drain()
                case _:
                    await self._forward(reader, writer, fault)
        except OSError:
            _reset(writer)
        finally:
            self._open.discard(writer)
            writer.close()

    def _next_fault(self) -> Fault | None:
        if self._fault is None or (self._times is not None and self.faults >= self._times):
            return None
        self.faults += 1
        return self._fault

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault | None) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        self._open.add(up_writer)
        sending = asyncio.create_task(_pump(reader, up_writer))
        # If the client is killed, reset the connection to the server, too.
        sending.add_done_callback(lambda done: done.cancelled() or done.exception() is None or _reset(up_writer))
        try:
            await _pump(up_reader, writer, fault)
            if fault is not None and fault.kind == "cut":
                _reset(writer)
        finally:
            self._open.discard(up_writer)
            up_writer.close()
            sending.cancel()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault | None = None) -> None:
    passed = 0
    limit = fault.after_bytes if fault is not None and fault.kind in ("cut", "end") else None
    while piece := await reader.read(PIECE):
        if fault is not None:
            await asyncio.sleep(fault.delay_s)
            piece = _flip(piece, passed, fault.after_bytes) if fault.kind == "flip" else piece
        writer.write(piece if limit is None else piece[: limit - passed])
        await writer.drain()
        passed += len(piece)
        if limit is not None and passed >= limit:
            return
    if not writer.is_closing():
        writer.write_eof()


def _flip(piece: bytes, passed: int, every: int) -> bytes:
    flipped = bytearray(piece)
    for index in range((every - 1 - passed) % every, len(piece), every):
        flipped[index] ^= 0xFF
    return bytes(flipped)


def _reset(writer: asyncio.StreamWriter) -> None:
    if writer.is_closing():
        return
    # With a linger time of 0, closing sends RST instead of FIN.
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def fault_proxy(upstream_port: int) -> Iterator[FaultProxy]:
    """Run a proxy for a port of loopback until the block ends, without a fault at first."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fault-proxy")
    thread.start()
    proxy = FaultProxy(upstream_port, loop)
    server = asyncio.run_coroutine_threadsafe(proxy.serve(), loop).result(5)
    try:
        yield proxy
    finally:
        proxy.inject(None)
        asyncio.run_coroutine_threadsafe(_close(server), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _close(server: asyncio.Server) -> None:
    server.close()
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)
