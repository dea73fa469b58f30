"""Connections to PostgreSQL, directly or through a connection pooler such as PgBouncer.

Directly, the limits of time are set once for each connection. A pooler in transaction mode gives each transaction
another connection: the limits are then set in each transaction, and statements are not prepared.
"""

from collections.abc import Mapping, MutableMapping
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import Dialect
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

CONNECT_TIMEOUT_S = 5
POOL_TIMEOUT_S = 30
KEEPALIVES = {"keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}
"""Limits in s (`tcp_user_timeout` in ms) how long a client waits for a server that is down."""

_REFUSED_OPTIONS = "unsupported startup parameter"
_POOLED = "fundus_pooled"


def make_engine(url: URL, parameters: Mapping[str, str], *, pool_size: int) -> Engine:
    """Create an engine whose transactions have these server parameters, without opening a connection."""
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        # Otherwise errors repeat the statement's values, and patient ids get into the log.
        hide_parameters=True,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        pool_timeout=POOL_TIMEOUT_S,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, **KEEPALIVES},
    )
    options = " ".join(f"-c {name}={value}" for name, value in parameters.items())

    def connect(dialect: Dialect, record: ConnectionPoolEntry, arguments: list[Any], named: dict[str, Any]) -> Any:
        connection, accepts_options = _connect(dialect, arguments, named, options)
        record.info[_POOLED] = not accepts_options or _is_pooled(connection)
        if record.info[_POOLED]:
            connection.prepare_threshold = None
        return connection

    def begin(connection: Connection) -> None:
        if connection.info[_POOLED]:
            set_locally(connection, parameters)

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "begin", begin)
    return engine


def make_migration_engine(engine: Engine, lock_timeout_s: float) -> Engine:
    """Create an engine for the same database without limits of time, except for locks within a transaction."""
    unlimited = create_engine(
        engine.url,
        hide_parameters=True,
        poolclass=NullPool,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "prepare_threshold": None, **KEEPALIVES},
    )
    limits = {
        "statement_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "lock_timeout": f"{lock_timeout_s:g}s",
    }
    event.listen(unlimited, "begin", lambda connection: set_locally(connection, limits))
    return unlimited


def set_locally(connection: Connection, parameters: Mapping[str, str]) -> None:
    """Set server parameters until the transaction ends."""
    settings = ", ".join(["set_config(%s, %s, true)"] * len(parameters))
    values = tuple(text for pair in parameters.items() for text in pair)
    connection.exec_driver_sql(f"SELECT {settings}", values)


def _connect(
    dialect: Dialect, arguments: list[Any], named: MutableMapping[str, Any], options: str
) -> tuple[psycopg.Connection, bool]:
    """Connect with the options; without them if the pooler refuses them. Returns also whether it accepted them."""

    def connect(**more: str) -> Any:
        return dialect.connect(*arguments, **{**named, **more})

    try:
        return connect(options=options), True
    except psycopg.OperationalError as error:
        if _REFUSED_OPTIONS not in str(error):
            raise
    return connect(), False


def _is_pooled(connection: psycopg.Connection) -> bool:
    """Whether another program answers for the server: it gave the client a process id of its own."""
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    connection.rollback()
    return row is None or row[0] != connection.info.backend_pid
