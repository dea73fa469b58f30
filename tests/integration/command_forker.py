"""A process that has imported the commands and forks for each: a command's process without its second of imports.

Run as a program by `processes.py`; its standard input is a socket of requests and ends with the tests.
"""

import gc
import json
import os
import signal
import socket
import sys
import tempfile
import time
from importlib import import_module
from typing import Any

from producer.cli import COMMANDS, main

REQUEST_BYTES = 1 << 17
STREAMS = 3
SLOW_IMPORTS = ("accept", "compare", "demo", "drift", "evaluate", "model", "panel", "worker")
"""Commands that start as processes of their own, or that few tests call."""
LATE_IMPORTS = (
    "kombu.transport.redis",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "worker.console.commands.user",
    "worker.ledger.status",
)
"""Modules that the commands import when they need them."""


def _receive(requests: socket.socket) -> dict[str, Any] | None:
    """Fork a process for each request and return the request in it; return None in this process, at the end."""
    while True:
        message, files, *_ = socket.recv_fds(requests, REQUEST_BYTES, STREAMS + 1)
        if not message:
            return None
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            *streams, reply = files
            if command := os.fork():
                os.write(reply, f"{command}\n".encode())
                os.write(reply, f"{os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])}\n".encode())
                os._exit(0)
            requests.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            for file in files:
                os.close(file)
            return dict(json.loads(message))
        for file in files:
            os.close(file)


def _become(request: dict[str, Any]) -> None:
    """Take over the arguments, environment, folder and streams of a request, as a new process would have them."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    tempfile.tempdir = None
    sys.argv = ["fundus", *request["arguments"]]
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in enumerate("rww"))


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for module in (*(one.module for one in COMMANDS if one.name not in SLOW_IMPORTS), *LATE_IMPORTS):
        import_module(module)
    assert "tensorflow" not in sys.modules
    gc.freeze()
    if request := _receive(socket.socket(fileno=os.dup(0))):
        _become(request)
        sys.exit(main())
