"""The console on a port of its own, in this process, as `fundus console serve` runs it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from socket import socket

import uvicorn
from sqlalchemy import Engine

from worker.console.app import make_app
from worker.console.origin import make_origin
from worker.core.settings import Settings

START_TIMEOUT_S = 60


@contextmanager
def serving(settings: Settings, engine: Engine) -> Iterator[str]:
    """The address; everything ends on leaving."""
    listening = socket()
    listening.bind(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    origin = make_origin(settings, "127.0.0.1", port)
    config = uvicorn.Config(make_app(settings, engine, origin), log_config=None, access_log=False, server_header=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    until = time.monotonic() + START_TIMEOUT_S
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    assert server.started
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(START_TIMEOUT_S)
        listening.close()
        assert not thread.is_alive()
