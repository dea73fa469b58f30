"""Run the review console in this process, as `fundus console serve` does."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from socket import socket

import uvicorn
from sqlalchemy import Engine

from worker.console.app import make_app
from worker.console.origin import make_origin
from worker.console.server import SERVER_OPTIONS
from worker.core.settings import Settings

START_TIMEOUT_S = 60


@contextmanager
def serve_console(settings: Settings, engine: Engine) -> Iterator[str]:
    """Serve the console on a free port until the block ends; yields its URL."""
    listening = socket()
    listening.bind(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    origin = make_origin(settings, "127.0.0.1", port)
    config = uvicorn.Config(make_app(settings, engine, origin), **SERVER_OPTIONS)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    deadline = time.monotonic() + START_TIMEOUT_S
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.started
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(START_TIMEOUT_S)
        listening.close()
        assert not thread.is_alive()
