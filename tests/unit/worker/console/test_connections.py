"""The console's server answers others while clients open connections, send slowly or do not read."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from socket import SO_RCVBUF, SOL_SOCKET, create_connection, socket
from typing import Any

import httpx
import pytest
import uvicorn

from worker.console import connections
from worker.console.server import SERVER_OPTIONS

WAIT_S = 60
HALF_A_HEAD = b"GET / HTTP/1.1\r\nHost: console\r\nX-Slow: "
HALF_A_BODY = b"POST / HTTP/1.1\r\nHost: console\r\nContent-Length: 100\r\n\r\nhalf"
ENDLESS = b"GET /endless HTTP/1.1\r\nHost: console\r\n\r\n"


class App:
    """Answers `ok` after the whole body; sends `/endless` until the client is gone, which sets `has_ended`."""

    def __init__(self) -> None:
        self.has_ended = threading.Event()

    async def __call__(self, scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        if scope["type"] != "http":
            return
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/endless":
            gone = asyncio.ensure_future(receive())
            while not gone.done():
                await send({"type": "http.response.body", "body": bytes(2**20), "more_body": True})
                await asyncio.sleep(0)
            self.has_ended.set()
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def port(app: App) -> Iterator[int]:
    """Port of a server with the console's options."""
    listening = socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", **SERVER_OPTIONS))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    port = int(listening.getsockname()[1])
    # The socket accepts connections before the server runs; this one is answered when it does.
    assert get(port) == (200, "ok")
    yield port
    server.should_exit = True
    thread.join(WAIT_S)
    listening.close()
    assert not thread.is_alive()


@pytest.fixture
def opened(port: int) -> Iterator[Callable[..., socket]]:
    """Function that opens a connection and sends these bytes; all are closed at the end."""
    with ExitStack() as stack:

        def open_and_send(data: bytes, *, read_buffer: int | None = None) -> socket:
            client = stack.enter_context(create_connection(("127.0.0.1", port), timeout=WAIT_S))
            if read_buffer is not None:
                client.setsockopt(SOL_SOCKET, SO_RCVBUF, read_buffer)
            client.sendall(data)
            return client

        yield open_and_send


def get(port: int) -> tuple[int, str]:
    answer = httpx.get(f"http://127.0.0.1:{port}/", timeout=WAIT_S)
    return answer.status_code, answer.text


def wait_for_end(client: socket) -> bytes:
    """Return what the server sends until it ends the connection."""
    received = b""
    try:
        while data := client.recv(4096):
            received += data
    except ConnectionResetError:
        pass
    return received


@pytest.mark.parametrize("begun", [b"", HALF_A_HEAD, HALF_A_BODY])
def test_others_are_answered_while_more_connections_than_the_limit_are_half_open(
    port: int, opened: Callable[..., socket], begun: bytes
) -> None:
    clients = [opened(begun) for _ in range(connections.MAX_WAITING + 20)]
    assert get(port) == (200, "ok")
    for client in clients[:20]:
        assert wait_for_end(client) == b""


def test_idle_connections_take_no_place_from_others(port: int, opened: Callable[..., socket]) -> None:
    for _ in range(connections.MAX_WAITING + 20):
        client = opened(b"GET / HTTP/1.1\r\nHost: console\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
    assert get(port) == (200, "ok")


@pytest.mark.parametrize("begun", [b"", HALF_A_HEAD, HALF_A_BODY])
def test_request_that_does_not_end_is_cut_off(
    opened: Callable[..., socket], begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REQUEST_TIMEOUT_S", 0.1)
    assert wait_for_end(opened(begun)) == b""


def test_second_request_on_a_connection_that_does_not_end_is_cut_off(
    opened: Callable[..., socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = opened(b"GET / HTTP/1.1\r\nHost: console\r\n\r\n")
    assert client.recv(4096).startswith(b"HTTP/1.1 200")
    monkeypatch.setattr(connections, "REQUEST_TIMEOUT_S", 0.1)
    client.sendall(HALF_A_HEAD)
    wait_for_end(client)


def test_client_that_does_not_read_is_cut_off(
    app: App, opened: Callable[..., socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "READ_TIMEOUT_S", 0.1)
    opened(ENDLESS, read_buffer=4096)
    assert app.has_ended.wait(WAIT_S)
