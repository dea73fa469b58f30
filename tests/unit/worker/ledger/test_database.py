import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from sqlalchemy import Engine, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from tests.services.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.services.process import HUNG_AFTER_S
from worker.core.errors import DatabaseError, SettingsError
from worker.core.settings import parse_settings
from worker.ledger import database
from worker.ledger.database import connect, epoch_now, read_transaction, write_transaction
from worker.ledger.schema import locks

PRAGMAS = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}
"""Write-ahead log, each commit synced to disk, and writers that wait up to 30 s for the lock."""


def insert_lock(engine: Engine, name: str) -> None:
    with write_transaction(engine) as connection:
        connection.execute(insert(locks).values(name=name, holder="me", until=0))


def count_locks(engine: Engine) -> int:
    with read_transaction(engine) as connection:
        return connection.execute(select(func.count()).select_from(locks)).scalar_one()


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[FaultProxy]:
    port = urlsplit(postgres_url).port
    assert port is not None
    with fault_proxy(port) as proxy:
        yield proxy


@pytest.fixture
def behind_proxy(postgres_url: str, proxy: FaultProxy) -> Iterator[Engine]:
    parts = urlsplit(postgres_url)
    url = parts._replace(netloc=f"postgres@127.0.0.1:{proxy.port}").geturl()
    engine = connect(parse_settings(database_url=url))
    yield engine
    engine.dispose()


def test_committed_transaction_is_stored(engine: Engine) -> None:
    insert_lock(engine, "reconciler")
    assert count_locks(engine) == 1


def test_failed_transaction_is_rolled_back(engine: Engine) -> None:
    def fail() -> None:
        with write_transaction(engine) as connection:
            connection.execute(insert(locks).values(name="reconciler", holder="me", until=0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert count_locks(engine) == 0


def test_reader_sees_the_state_before_an_open_write_transaction(engine: Engine) -> None:
    with write_transaction(engine) as connection:
        connection.execute(insert(locks).values(name="reconciler", holder="me", until=0))
        assert count_locks(engine) == 0
    assert count_locks(engine) == 1


def test_sqlite_writers_are_serialised(sqlite_url: str) -> None:
    # Each thread reads the counter and writes it back: a deferred transaction would fail or lose an increment.
    engine = connect(parse_settings(database_url=sqlite_url))
    insert_lock(engine, "counter")

    def count() -> None:
        for _ in range(10):
            with write_transaction(engine) as connection:
                until = connection.execute(select(locks.c.until)).scalar_one()
                connection.execute(locks.update().values(until=until + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with read_transaction(engine) as connection:
        assert connection.execute(select(locks.c.until)).scalar_one() == 40
    engine.dispose()


def test_sqlite_syncs_commits_and_enforces_foreign_keys(sqlite_url: str) -> None:
    engine = connect(parse_settings(database_url=sqlite_url))
    with read_transaction(engine) as connection:
        pragmas = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in PRAGMAS}
    assert pragmas == PRAGMAS
    engine.dispose()


def test_postgresql_has_timeouts(postgres_url: str) -> None:
    engine = connect(parse_settings(database_url=postgres_url))
    with read_transaction(engine) as connection:
        bounds = [
            connection.execute(text(f"SHOW {name}")).scalar_one()
            for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "timezone")
        ]
    assert bounds == ["2min", "30s", "30s", "UTC"]
    engine.dispose()


def test_locks_of_an_unresponsive_client_are_freed(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like a worker whose machine loses power during a transaction."""
    monkeypatch.setattr(database, "IDLE_IN_TRANSACTION_TIMEOUT_S", 1)
    engine = connect(parse_settings(database_url=postgres_url))
    insert_lock(engine, "reconciler")

    def become_unresponsive() -> None:
        with write_transaction(engine) as silent:
            silent.execute(update(locks).values(holder="silent"))
            with write_transaction(engine) as other:
                other.execute(update(locks).values(holder="other"))

    with pytest.raises(DatabaseError, match="idle-in-transaction timeout"):
        become_unresponsive()
    with read_transaction(engine) as connection:
        assert connection.execute(select(locks.c.holder)).scalar_one() == "other"
    engine.dispose()


def test_ledger_clock_agrees_with_this_machine(engine: Engine) -> None:
    before = time.time()
    with read_transaction(engine) as connection:
        now = connection.execute(select(epoch_now())).scalar_one()
    # SQLite's clock has milliseconds, stored as a float of days since 4714 BC with a resolution of 40 microseconds.
    assert before - 0.002 <= now <= time.time() + 0.002


def test_integrity_error_is_not_a_database_error(engine: Engine) -> None:
    insert_lock(engine, "reconciler")
    with pytest.raises(IntegrityError):
        insert_lock(engine, "reconciler")


def test_unreachable_server_is_a_database_error_without_password() -> None:
    engine = connect(parse_settings(database_url="postgresql://user:hunter2@127.0.0.1:1/ledger"))
    with pytest.raises(DatabaseError, match="Connection refused") as caught:
        count_locks(engine)
    assert "hunter2" not in caught.value.detail


@pytest.mark.parametrize("url", ["sqlite:///{}/ledger.db", "sqlite:///file:{}/ledger.db?uri=true"])
def test_missing_file_is_a_database_error_and_is_not_created(url: str, tmp_path: Path) -> None:
    engine = connect(parse_settings(database_url=url.format(tmp_path)))
    for _ in range(2):
        with pytest.raises(DatabaseError, match="unable to open database file"):
            count_locks(engine)
    assert list(tmp_path.iterdir()) == []


def test_connection_lost_during_a_transaction_is_a_database_error(behind_proxy: Engine, proxy: FaultProxy) -> None:
    def lose_the_connection() -> None:
        with write_transaction(behind_proxy) as connection:
            connection.execute(insert(locks).values(name="reconciler", holder="me", until=0))
            proxy.inject(None)
            connection.execute(select(locks))

    with pytest.raises(DatabaseError):
        lose_the_connection()
    assert count_locks(behind_proxy) == 0


def test_connection_lost_between_transactions_is_replaced(behind_proxy: Engine, proxy: FaultProxy) -> None:
    insert_lock(behind_proxy, "reconciler")
    proxy.inject(None)
    assert count_locks(behind_proxy) == 1


def test_stopped_server_is_a_database_error_until_it_restarts(behind_proxy: Engine, proxy: FaultProxy) -> None:
    assert count_locks(behind_proxy) == 0
    proxy.inject(Fault("reset"))
    with pytest.raises(DatabaseError):
        count_locks(behind_proxy)
    proxy.inject(None)
    assert count_locks(behind_proxy) == 0


def test_unresponsive_server_is_a_database_error(behind_proxy: Engine, proxy: FaultProxy) -> None:
    proxy.inject(Fault("stall"))
    started = time.monotonic()
    with pytest.raises(DatabaseError, match="timeout"):
        count_locks(behind_proxy)
    assert 4 < time.monotonic() - started < HUNG_AFTER_S


def test_terminated_connection_is_a_database_error(postgres_url: str) -> None:
    engine = connect(parse_settings(database_url=postgres_url))

    def have_connection_terminated() -> None:
        with write_transaction(engine) as connection:
            mine = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            with psycopg.connect(postgres_url, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s)", [mine])
            connection.execute(select(locks))

    with pytest.raises(DatabaseError, match="terminating connection"):
        have_connection_terminated()
    engine.dispose()


def test_read_only_database_is_a_database_error(postgres_url: str) -> None:
    name = urlsplit(postgres_url).path.strip("/")
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    engine = connect(parse_settings(database_url=postgres_url))
    assert count_locks(engine) == 0
    with pytest.raises(DatabaseError, match="read-only transaction"):
        insert_lock(engine, "any")
    engine.dispose()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_in_memory_ledger_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="FUNDUS_DATABASE_URL: "):
        connect(parse_settings(database_url=url))


def test_malformed_url_is_refused_without_password() -> None:
    with pytest.raises(SettingsError, match="FUNDUS_DATABASE_URL: ") as caught:
        connect(parse_settings(database_url="postgresql://user:hunter2@host:port/ledger"))
    assert "hunter2" not in str(caught.value)


def test_driver_in_the_url_is_replaced_by_the_installed_one(postgres_url: str) -> None:
    engine = connect(parse_settings(database_url=postgres_url.replace("postgresql://", "postgresql+psycopg2://")))
    assert count_locks(engine) == 0
    engine.dispose()
