"""What a real worker tells of a real run is what the ledger says of it."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from producer.embedded import free_port
from tests.integration.processes import fundus, fundus_json, wait_until_finished, worker
from tests.unit.worker.test_metrics import Samples, read

SAMPLES = Path(__file__).parents[2] / "producer" / "samples"
CHUNK = 4


class Told:
    """One run, graded by one worker, and all that was heard of it."""

    def __init__(self, folder: Path, metrics: Samples) -> None:
        self.folder = folder
        self.metrics = metrics

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "ledger.db")) as connection:
            return connection.execute(query).fetchall()

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        """What is above 0, by label values."""
        return {key[1:]: value for key, value in self.metrics.items() if key[0] == name and value}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, valkey: str) -> Told:
    folder = tmp_path_factory.mktemp("told")
    port = free_port()
    env = {
        "FUNDUS_DATABASE_URL": f"sqlite:///{folder / 'ledger.db'}",
        "FUNDUS_BROKER_URL": valkey,
        "FUNDUS_STORAGE_URL": (folder / "store").as_uri(),
        "FUNDUS_METRICS_PORT": str(port),
        "FUNDUS_CHUNK_SIZE": str(CHUNK),
    }
    with Redis.from_url(valkey) as client:
        client.flushall()
    fundus("db", "upgrade", env=env)
    with worker(env, folder / "worker.log"):
        fundus_json("enqueue", str(SAMPLES / "manifest.csv"), "--run", "told", env=env)
        wait_until_finished("told", env)
        return Told(folder, read(f"http://127.0.0.1:{port}/metrics"))


def test_outcomes_and_attempts_are_those_of_the_ledger(told: Told) -> None:
    by_status = {(status,): n for status, n in told.rows("SELECT status, count(*) FROM gradings GROUP BY 1")}
    assert by_status == {("graded",): 11, ("ungradable",): 1, ("failed",): 1}
    assert told.counted("fundus_worker_images_total") == by_status
    by_grade = told.rows("SELECT grade, count(*) FROM gradings WHERE grade IS NOT NULL GROUP BY 1")
    assert told.counted("fundus_worker_graded_images_total") == {(str(grade),): n for grade, n in by_grade}
    by_code = told.rows("SELECT error_code, status, count(*) FROM gradings WHERE error_code IS NOT NULL GROUP BY 1, 2")
    assert told.counted("fundus_worker_errors_total") == {(code, status): n for code, status, n in by_code}
    ((attempts,),) = told.rows("SELECT sum(attempts) FROM gradings")
    assert told.counted("fundus_worker_attempts_total") == {("1",): attempts}
    assert told.metrics["fundus_worker_lost_images_total",] == told.metrics["fundus_worker_chunks_in_flight",] == 0


def test_bytes_are_those_of_the_files(told: Told) -> None:
    sources = [Path(uri.removeprefix("file://")) for (uri,) in told.rows("SELECT uri FROM images")]
    assert told.metrics["fundus_worker_fetched_bytes_total",] == sum(path.stat().st_size for path in sources)
    overlays = [path for path in (told.folder / "store").rglob("*") if path.is_file()]
    assert told.metrics["fundus_worker_uploaded_bytes_total",] == sum(path.stat().st_size for path in overlays)


def test_every_stage_is_counted_as_often_as_it_was_passed(told: Told) -> None:
    chunks = -(-13 // CHUNK)
    counts = {stage: n for (stage,), n in told.counted("fundus_worker_stage_seconds_count").items()}
    of_images = {"fetch": 13, "prepare": 13, "wait": 11, "infer": 11, "draw": 11, "upload": 11}
    assert counts == {"lease": chunks, **of_images, "settle": chunks}
    assert told.metrics["fundus_worker_batch_images_sum",] == 11
    busy = told.metrics["fundus_worker_engine_busy_seconds_total",]
    # An image is in the engine for as long as its batch is.
    assert 0 < busy <= told.metrics["fundus_worker_stage_seconds_sum", "infer"]
