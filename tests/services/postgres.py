"""PostgreSQL server for tests, with databases that are copies of one template."""

import itertools
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg

from tests.services.identity import unprivileged_postgres
from tests.services.ports import reserve_port
from tests.services.process import Server, start_server

TEMPLATE = "migrated"
# initdb, then the server. Data are discarded after the tests, so no write waits for the disk.
SCRIPT = """
"$0/initdb" -D data -U postgres -A trust -N -E UTF8 --locale=C.UTF-8 &&
exec "$0/postgres" -D data -p "$1" -h 127.0.0.1 -k "" \
    -c fsync=off -c full_page_writes=off -c synchronous_commit=off -c shared_buffers=64MB -c max_connections=100
"""


class Postgres:
    """A server with one database for each test."""

    def __init__(self, server: Server, port: int) -> None:
        self._server = server
        self._port = port
        self._numbers = itertools.count(1)

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}/{database}"

    def wait(self) -> None:
        self._server.wait_for(lambda: self._execute("SELECT 1"), (psycopg.OperationalError,))

    def make_template(self, migrate: Callable[[str], None]) -> None:
        """Create the template of `create`; `migrate` receives its URL and fills it."""
        self._execute(f"CREATE DATABASE {TEMPLATE}")
        migrate(self.url(TEMPLATE))

    def create(self, template: str = TEMPLATE) -> str:
        """Create a database and return its name; the template `template0` makes it empty."""
        name = f"test_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def drop(self, database: str) -> None:
        self._execute(f"DROP DATABASE {database} WITH (FORCE)")

    def stop(self) -> None:
        self._server.stop()

    def _execute(self, statement: str) -> None:
        with closing(psycopg.connect(self.url("postgres"), connect_timeout=2, autocommit=True)) as connection:
            connection.execute(statement)


def start_postgres(directory: Path, *, user_namespace: bool = True) -> Postgres:
    """Start a server in `directory`, which must exist and be empty; returns before it is ready."""
    programs, identity = unprivileged_postgres(directory, user_namespace=user_namespace)
    port = reserve_port()
    server = start_server(
        ["/bin/sh", "-c", SCRIPT, programs, str(port)],
        directory / "postgres.log",
        environment={"LC_ALL": "C.UTF-8"},
        identity=identity,
        # Fast shutdown: PostgreSQL ends its connections instead of waiting for them.
        stop_signal=signal.SIGINT,
    )
    return Postgres(server, port)
