"""Connect to the ledger: the engine, read and write transactions, the database clock and translated errors."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Float

from worker.core.errors import DatabaseError, SettingsError
from worker.core.settings import Settings
from worker.ledger.postgresql import make_engine, make_migration_engine
from worker.ledger.sqlite_file import open_existing

BUSY_TIMEOUT_S = 30
STATEMENT_TIMEOUT_S = 120
IDLE_IN_TRANSACTION_TIMEOUT_S = 30
"""Limits how long the server keeps the locks of a client whose machine is down; TCP alone would take hours."""

MIGRATION_LOCK = 0x46554E445553
"""Advisory lock: "FUNDUS" in ASCII. No other program of the database may use this number."""
MIGRATION_LOCK_TIMEOUT_S = 10
MIGRATION_POLL_S = 0.2


class epoch_now(FunctionElement[float]):  # noqa: N801 - reads as the SQL function it is
    """Seconds since 1970 on the database clock, so that leases do not depend on the workers' clocks."""

    type = Float()
    inherit_cache = True


@compiles(epoch_now, "sqlite")
def _epoch_sqlite(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(epoch_now, "postgresql")
def _epoch_postgresql(*_: Any, **__: Any) -> str:
    # now() instead of clock_timestamp(): with a volatile function the planner does not use the index on due_at.
    return "CAST(extract(epoch FROM now()) AS double precision)"


def connect(settings: Settings, *, pool_size: int = 5) -> Engine:
    """Create an engine for the ledger without opening a connection. A missing SQLite file is not created.

    Raises SettingsError when FUNDUS_DATABASE_URL is malformed or names an in-memory database.
    """
    try:
        url = make_url(settings.database_url.get_secret_value())
    except (SQLAlchemyError, ValueError):
        raise SettingsError("FUNDUS_DATABASE_URL: malformed URL; expected scheme://user:password@host/name") from None
    if url.get_backend_name() == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise SettingsError(
                "FUNDUS_DATABASE_URL: an in-memory database is not shared between processes; use sqlite:///FILE"
            )
        engine = create_engine(
            url,
            hide_parameters=True,
            connect_args={"timeout": BUSY_TIMEOUT_S},
            pool_size=pool_size,
            max_overflow=pool_size,
        )
        event.listen(engine, "do_connect", open_existing)
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    limits = {
        "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
        "lock_timeout": f"{BUSY_TIMEOUT_S}s",
        "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_TIMEOUT_S}s",
        "timezone": "UTC",
    }
    return make_engine(url, limits, pool_size=pool_size)


@contextmanager
def read_transaction(engine: Engine) -> Iterator[Connection]:
    """Open a transaction for queries. Raises DatabaseError when the ledger is unavailable."""
    with _translate_errors(), engine.begin() as connection:
        yield connection


@contextmanager
def write_transaction(engine: Engine) -> Iterator[Connection]:
    """Open a transaction for changes, committed at the end and rolled back on any error.

    Raises DatabaseError when the ledger is unavailable.
    """
    with (
        _translate_errors(),
        engine.connect().execution_options(fundus_writes=True) as connection,
        connection.begin(),
    ):
        yield connection


@contextmanager
def migration_connection(engine: Engine) -> Iterator[Connection]:
    """Open a connection for migrations, which begin their own transactions. One migrator at a time has one.

    On PostgreSQL, statements have no limit of time, and wait at most MIGRATION_LOCK_TIMEOUT_S for a lock. On SQLite,
    the first transaction excludes other migrators. Raises DatabaseError.
    """
    if engine.dialect.name == "sqlite":
        with _translate_errors(), engine.connect().execution_options(fundus_writes=True) as connection:
            yield connection
        return
    unlimited = make_migration_engine(engine, MIGRATION_LOCK_TIMEOUT_S)
    try:
        # The lock has a transaction of its own, which survives those of the migrations, also behind a pooler.
        with _translate_errors(), unlimited.connect() as guard:
            _wait_for_migration_lock(guard)
            with unlimited.connect() as connection:
                yield connection
    finally:
        unlimited.dispose()


def _wait_for_migration_lock(guard: Connection) -> None:
    """Lock until the transaction ends, without a snapshot: an index that is built concurrently waits for them."""
    attempt = select(func.pg_try_advisory_xact_lock(MIGRATION_LOCK))
    while not guard.scalar(attempt):
        guard.rollback()
        time.sleep(MIGRATION_POLL_S)
    # A query keeps its snapshot until the next statement, and this statement needs none.
    guard.exec_driver_sql("SET LOCAL application_name = 'fundus migration lock'")


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    # InternalError: the database is temporarily read-only, as during a failover or when its disk is almost full.
    except (OperationalError, InterfaceError, InternalError, PoolTimeoutError) as error:
        raise DatabaseError(_first_line(error)) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseError(_first_line(error)) from error
        raise


def _first_line(error: SQLAlchemyError) -> str:
    """Return the driver's message without the statement and its parameters."""
    return (str(getattr(error, "orig", None) or error).strip() or type(error).__name__).splitlines()[0]


def _configure_sqlite(connection: Any, _record: Any) -> None:
    # The driver begins transactions late and commits before DDL, so `_begin_sqlite` begins them instead.
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_S * 1000}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that becomes a writer fails immediately instead of waiting for the lock.
    writes = connection.get_execution_options().get("fundus_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
