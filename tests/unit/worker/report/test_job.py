"""A worker writes pending reports into the store and releases those that it cannot finish."""

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from sqlalchemy import Engine, select, update

from tests.browser.ledgers import fill_ledger
from worker.core.errors import UsageError
from worker.core.settings import Settings
from worker.core.storage.object_store import ObjectStore
from worker.core.storage.storage import Storage
from worker.ledger.database import connect, read_transaction, write_transaction
from worker.ledger.report_leases import schedule_report
from worker.ledger.schema import reports
from worker.report.job import ReportJob


@pytest.fixture
def engine(sqlite_url: str, make_settings: Callable[..., Settings]) -> Engine:
    return connect(make_settings(database_url=sqlite_url))


@pytest.fixture
def run(engine: Engine) -> int:
    run_id = fill_ledger(engine, "night", 3, ["file:///gone.jpg"], shares=(0, 0, 0, 0, 0))
    with write_transaction(engine) as connection:
        schedule_report(connection, run_id)
    return run_id


def row(engine: Engine) -> object:
    with read_transaction(engine) as connection:
        return connection.execute(select(reports)).one()


def test_report_is_written_next_to_the_overlays_in_both_stores(
    engine: Engine, run: int, store: ObjectStore, make_settings: Callable[..., Settings]
) -> None:
    settings = make_settings(report_baseline="a-run-that-is-not-there")
    assert ReportJob(engine, settings).write(run)
    assert b"<!doctype html>" in Storage(settings).overlays.get("night/report/index.html")
    assert json.loads(store.get("night/report/summary.json"))["images"] == 3
    assert store.get("night/report/results.csv").count(b"\n") == 4
    assert store.get("night/report/results.parquet").startswith(b"PAR1")
    assert (row(engine).prefix, row(engine).due_at) == ("night/report/", None)  # type: ignore[attr-defined]
    assert not ReportJob(engine, settings).write(run)


def test_stopped_worker_releases_the_report_immediately(
    engine: Engine, run: int, make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    job = ReportJob(engine, make_settings())
    with write_transaction(engine) as connection:
        connection.execute(update(reports).values(attempts=1))
    job.stop()
    assert not job.write(run)
    assert (row(engine).attempts, row(engine).lease_token, row(engine).written_at) == (1, None, None)  # type: ignore[attr-defined]
    assert ReportJob(engine, make_settings()).write(run)


def test_unavailable_store_postpones_the_report(
    engine: Engine, run: int, make_settings: Callable[..., Settings]
) -> None:
    settings = make_settings()
    store_path = Path(unquote(urlsplit(settings.storage_url).path))
    store_path.write_text("a file where the folder should be")
    assert not ReportJob(engine, settings).write(run)
    assert row(engine).attempts == 0  # type: ignore[attr-defined]
    store_path.unlink()
    assert ReportJob(engine, settings).write(run)


def test_unexpected_error_counts_as_an_attempt(
    engine: Engine, run: int, make_settings: Callable[..., Settings]
) -> None:
    with write_transaction(engine) as connection:
        connection.exec_driver_sql("UPDATE gradings SET status = 'failed', settled_at = 'no moment'")
    assert not ReportJob(engine, make_settings()).write(run)
    assert row(engine).attempts == 1  # type: ignore[attr-defined]


def test_invalid_file_of_next_steps_stops_the_worker(
    engine: Engine, make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        ReportJob(engine, make_settings(report_next_steps=tmp_path / "none.json"))
