"""A real PostgreSQL and databases on it, each a copy of one template."""

import itertools
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg

from tests.services.identity import unprivileged_postgres
from tests.services.ports import reserve_port
from tests.services.process import Server, start

TEMPLATE = "migrated"
# initdb, then the server in its place: nothing is kept that a test could miss, so nothing waits for the disk.
SCRIPT = """
"$0/initdb" -D data -U postgres -A trust -N -E UTF8 --locale=C.UTF-8 &&
exec "$0/postgres" -D data -p "$1" -h 127.0.0.1 -k "" \
    -c fsync=off -c full_page_writes=off -c synchronous_commit=off -c shared_buffers=64MB -c max_connections=100
"""


class Postgres:
    """One server; every database on it is made for one test."""

    def __init__(self, server: Server, port: int) -> None:
        self._server = server
        self._port = port
        self._numbers = itertools.count(1)

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}/{database}"

    def wait(self) -> None:
        self._server.wait_for(lambda: self._execute("SELECT 1"), (psycopg.OperationalError,))

    def make_template(self, migrate: Callable[[str], None]) -> None:
        """Create the database that `create` copies; `migrate` fills it, given its address."""
        self._execute(f"CREATE DATABASE {TEMPLATE}")
        migrate(self.url(TEMPLATE))

    def create(self, template: str = TEMPLATE) -> str:
        """The name of a new database; `template0` makes it empty."""
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
    """Start one in `directory`, which must exist and be empty; returns before it answers."""
    programs, identity = unprivileged_postgres(directory, user_namespace=user_namespace)
    port = reserve_port()
    server = start(
        ["/bin/sh", "-c", SCRIPT, programs, str(port)],
        directory / "postgres.log",
        environment={"LC_ALL": "C.UTF-8"},
        identity=identity,
        # Fast shutdown: ends its connections, does not wait for them.
        parting=signal.SIGINT,
    )
    return Postgres(server, port)
