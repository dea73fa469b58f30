"""Flower shows the chunks of a real worker, requires a password and cannot stop workers."""

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.integration.processes import fundus, fundus_json, wait_until_finished, worker
from tests.services.flower import PASSWORD, chunk_tasks, flower, get, http_status

SAMPLES = Path(__file__).parents[2] / "producer" / "demo" / "samples"
PERSONAL = re.compile(r"IDRiD|\.jpg|file://|sqlite|" + re.escape(str(SAMPLES)))


@pytest.fixture
def env(tmp_path: Path, broker_url: str, small_model: dict[str, str]) -> dict[str, str]:
    return small_model | {
        "FUNDUS_DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}",
        "FUNDUS_BROKER_URL": broker_url,
        "FUNDUS_STORAGE_URL": (tmp_path / "store").as_uri(),
        "FUNDUS_CONCURRENCY": "2",
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
    }


@contextmanager
def block_writers(ledger: Path) -> Iterator[None]:
    """Hold the write lock of SQLite, so that workers wait at their next commit."""
    with closing(sqlite3.connect(ledger, isolation_level=None, timeout=30)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def bind_to_another_model(ledger: Path, run: str) -> None:
    with closing(sqlite3.connect(ledger)) as connection, connection:
        connection.execute("INSERT INTO models VALUES ('0123456789ab', 'elder', '{}', '2026-01-01 00:00:00')")
        connection.execute("UPDATE runs SET model_id = '0123456789ab' WHERE name = ?", (run,))


def test_chunks_are_shown_with_the_password_and_cannot_be_stopped(env: dict[str, str], tmp_path: Path) -> None:
    manifest, ledger = str(SAMPLES / "manifest.csv"), tmp_path / "ledger.db"
    fundus("db", "upgrade", env=env)
    with flower(env, tmp_path / "flower.log") as url:
        fundus_json("enqueue", manifest, "--run", "elders", "--chunk", "13", env=env)
        bind_to_another_model(ledger, "elders")
        fundus_json("enqueue", manifest, "--run", "july", "--chunk", "4", env=env)
        with worker(env, tmp_path / "worker.log"):
            with block_writers(ledger):
                started = chunk_tasks(url, "STARTED", 2)
            wait_until_finished("july", env)
            done = chunk_tasks(url, "SUCCESS", 4)
            (refused,) = chunk_tasks(url, "FAILURE", 1)
            shown = json.dumps(get(f"{url}/api/tasks")) + json.dumps(get(f"{url}/api/workers?refresh=true"))
            (name,) = get(f"{url}/api/workers?refresh=true")
            assert http_status(f"{url}/api/worker/shutdown/{name}", password=PASSWORD, method="POST") == 403

    assert {task["uuid"] for task in started} <= {task["uuid"] for task in (*done, refused)}
    for task in done:
        assert task["received"] <= task["started"] <= task["succeeded"]
    assert refused["received"] <= refused["started"] <= refused["failed"]
    assert re.search(r"run elders belongs to model 0123456789ab", refused["exception"])
    assert sorted(task["kwargs"] for task in done) == ["run=july, images=1", *["run=july, images=4"] * 3]
    assert refused["kwargs"] == "run=elders, images=13"
    assert {task["args"] for task in (*done, refused)} == {"()"}
    assert not PERSONAL.search(shown)


def test_nothing_is_shown_without_the_password(env: dict[str, str], tmp_path: Path) -> None:
    with flower(env, tmp_path / "flower.log") as url:
        for page in ("/", "/tasks", "/workers", "/broker", "/api/tasks", "/api/workers"):
            assert http_status(f"{url}{page}") == 401, page
            assert http_status(f"{url}{page}", password="wrong") == 401, page
