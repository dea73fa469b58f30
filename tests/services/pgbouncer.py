"""PgBouncer in transaction mode for tests, from the system's package, on loopback in front of the PostgreSQL server."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from tests.services.identity import unprivileged_identity, why_no_namespace
from tests.services.ports import reserve_port
from tests.services.process import start_server

PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server_port} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
ignore_startup_parameters = {ignored}
"""


def why_unavailable() -> str | None:
    """Return the reason why PgBouncer cannot run on this machine, or None."""
    if PROGRAM is None:
        return "needs PgBouncer: apt-get install pgbouncer"
    return None if unprivileged_identity() else "PgBouncer refuses to run as root, and user namespaces are forbidden"


@contextmanager
def pgbouncer(url: str, directory: Path, *, connections: int, ignored: str = "extra_float_digits") -> Iterator[str]:
    """Run PgBouncer until the block ends; yields the URL of the same database behind it.

    connections: to the server, for all clients. ignored: startup parameters that it drops instead of refusing them.
    """
    assert PROGRAM is not None
    identity = unprivileged_identity()
    if identity is None:
        pytest.skip(f"PgBouncer refuses to run as root: {why_no_namespace()}")
    server, port = make_url(url), reserve_port()
    directory.mkdir()
    file = directory / "pgbouncer.ini"
    file.write_text(CONFIGURATION.format(server_port=server.port, port=port, connections=connections, ignored=ignored))
    process = start_server([PROGRAM, file], directory / "pgbouncer.log", environment={}, identity=identity)
    pooled = server.set(port=port).render_as_string(hide_password=False)
    try:
        process.wait_for(lambda: psycopg.connect(pooled, connect_timeout=2).close(), (psycopg.OperationalError,))
        yield pooled
    finally:
        process.stop()
