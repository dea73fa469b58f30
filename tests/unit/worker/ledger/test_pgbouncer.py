"""The ledger behind a real PgBouncer in transaction mode, which gives each transaction another connection."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from tests.services.pgbouncer import pgbouncer, why_unavailable
from tests.unit.producer.ledger_rows import make_run, references, rows_of
from tests.unit.worker.ledger.ledger_rows import MODEL, add_model, graded, lease
from worker.core.settings import parse_settings
from worker.core.vocabulary import RunState
from worker.ledger.database import connect, read_transaction, write_transaction
from worker.ledger.leases import finish_run, settle_chunk
from worker.ledger.locks import LockResult, acquire_lock
from worker.ledger.migrate import read_schema_state, upgrade
from worker.ledger.runs import find_run

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))
LIMITS = {
    "statement_timeout": "2min",
    "lock_timeout": "30s",
    "idle_in_transaction_session_timeout": "30s",
    "TimeZone": "UTC",
}


@pytest.fixture(params=["extra_float_digits", "options"], ids=["options refused", "options dropped"])
def pooled(request: pytest.FixtureRequest, blank_postgres_url: str, tmp_path: Path) -> Iterator[Engine]:
    """Engine of an empty database; two connections to the server for all clients."""
    with pgbouncer(blank_postgres_url, tmp_path / "pgbouncer", connections=2, ignored=request.param) as url:
        engine = connect(parse_settings(database_url=url))
        yield engine
        engine.dispose()


def test_each_transaction_has_the_limits_of_time(pooled: Engine) -> None:
    for begin in (read_transaction, write_transaction) * 2:
        with begin(pooled) as connection:
            assert {name: connection.scalar(text(f"SHOW {name}")) for name in LIMITS} == LIMITS


def test_limits_do_not_reach_other_clients(pooled: Engine) -> None:
    with read_transaction(pooled) as connection:
        connection.execute(text("SELECT 1"))
    unlimited = connect(parse_settings(database_url=pooled.url.render_as_string(hide_password=False)))
    with unlimited.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # Without a transaction nothing is set: this is what the server's own connection has.
        assert connection.connection.driver_connection.execute("SHOW statement_timeout").fetchone() == ("0",)
    unlimited.dispose()


def test_ledger_is_migrated_and_its_indexes_are_valid(pooled: Engine) -> None:
    upgrade(pooled)
    schema = read_schema_state(pooled)
    assert schema.revision == schema.required
    with read_transaction(pooled) as connection:
        assert connection.scalar(text("SELECT count(*) FROM pg_index WHERE NOT indisvalid")) == 0


def test_workers_grade_a_run(pooled: Engine) -> None:
    """Statements repeat often enough for the driver to prepare them, which fails behind a pooler."""
    upgrade(pooled)
    add_model(pooled)
    names = [f"image-{number:02}" for number in range(24)]
    run = make_run(pooled, "night", references(*names))
    finished = []

    def work(own: list[str]) -> None:
        for name in own:
            held = lease(pooled, run.run_id, name)
            settle_chunk(pooled, held, [graded(name)], {}, model_id=MODEL, retry_after_s=60)
            finished.append(finish_run(pooled, run.run_id, report=False))

    threads = [threading.Thread(target=work, args=(names[start::3],)) for start in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {row.status for row in rows_of(pooled, run).values()} == {"graded"}
    assert find_run(pooled, "night").state == RunState.FINISHED
    assert acquire_lock(pooled, "night", "one", 60) is LockResult.ACQUIRED
    assert acquire_lock(pooled, "night", "two", 60) is LockResult.HELD_ELSEWHERE
