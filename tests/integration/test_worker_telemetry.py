"""What a real worker tells of a real run is what the ledger says of it."""

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.integration.processes import fundus, fundus_json, wait_until_finished, worker
from tests.services.collector import Span, collector
from tests.services.ports import reserve_port
from tests.unit.worker.inference.test_metrics import Samples, read

SAMPLES = Path(__file__).parents[2] / "producer" / "demo" / "samples"
CHUNK = 4


class Told:
    """One run, graded by one worker, and all that was heard of it."""

    def __init__(self, folder: Path, metrics: Samples, spans: list[Span]) -> None:
        self.folder = folder
        self.metrics = metrics
        self.spans = spans

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "ledger.db")) as connection:
            return connection.execute(query).fetchall()

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        """What is above 0, by label values."""
        return {key[1:]: value for key, value in self.metrics.items() if key[0] == name and value}

    def log(self) -> Iterator[dict[str, Any]]:
        """The worker's lines; what libraries say past the log, as they load, is none."""
        for line in (self.folder / "worker.log").read_text().splitlines():
            if line.startswith("{"):
                yield json.loads(line)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, valkey: str) -> Told:
    folder = tmp_path_factory.mktemp("told")
    port = reserve_port()
    env = {
        "FUNDUS_DATABASE_URL": f"sqlite:///{folder / 'ledger.db'}",
        "FUNDUS_BROKER_URL": valkey,
        "FUNDUS_STORAGE_URL": (folder / "store").as_uri(),
        "FUNDUS_METRICS_PORT": str(port),
        "FUNDUS_LOG_FORMAT": "json",
        "FUNDUS_REPORTS": "false",
        "FUNDUS_CHUNK_SIZE": str(CHUNK),
    }
    with Redis.from_url(valkey) as client:
        client.flushall()
    with collector() as received:
        env["FUNDUS_OTLP_URL"] = received.url
        fundus("db", "upgrade", env=env)
        with worker(env, folder / "worker.log"):
            fundus_json("enqueue", str(SAMPLES / "manifest.csv"), "--run", "told", env=env)
            wait_until_finished("told", env)
            metrics = read(f"http://127.0.0.1:{port}/metrics")
    return Told(folder, metrics, received.spans)


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


def test_one_trace_leads_from_the_sending_of_a_chunk_to_its_settled_rows(told: Told) -> None:
    traces = {span.trace_id: span for span in told.spans if span.name == "send chunk"}
    assert len(traces) == -(-13 // CHUNK)
    graded = {image_id for (image_id,) in told.rows("SELECT image_id FROM gradings WHERE status = 'graded'")}
    fetched = Counter[str]()
    for trace_id, sent in traces.items():
        (grading,) = (span for span in told.spans if (span.trace_id, span.name) == (trace_id, "grade chunk"))
        assert (sent.service, grading.service) == ("fundus-producer", "fundus-worker")
        assert (sent.parent_id, grading.parent_id) == ("", sent.span_id)
        assert sent.attributes == {
            "fundus.run": "told",
            "fundus.images": grading.attributes["fundus.images"],
            "fundus.queue": "bulk",
        }
        stages = [span for span in told.spans if span.parent_id == grading.span_id]
        assert {span.attributes["fundus.chunk"] for span in stages} == {grading.attributes["fundus.chunk"]}
        of_images = {
            name: {s.attributes["fundus.image"] for s in stages if s.name == name} for name in ("fetch", "upload")
        }
        assert of_images["upload"] == of_images["fetch"] & graded
        assert Counter(s.name for s in stages)["settle"] == 1
        assert all(span.duration_s <= grading.duration_s for span in stages)
        fetched.update(of_images["fetch"])
    assert fetched == Counter(image_id for (image_id,) in told.rows("SELECT image_id FROM gradings"))
    assert {span.trace_id for span in told.spans} == set(traces)
    assert not re.search(r"\.jpg|file:|" + re.escape(str(SAMPLES)), str(told.spans))


def test_lines_of_the_log_carry_run_chunk_image_and_trace(told: Told) -> None:
    lines = {line["image"]: line for line in told.log() if line["event"] in ("failed", "ungradable")}
    assert lines.keys() == {"not-an-image", "black-frame"}
    for image_id, line in lines.items():
        (fetch,) = (s for s in told.spans if s.name == "fetch" and s.attributes["fundus.image"] == image_id)
        assert (line["run"], line["chunk"]) == ("told", fetch.attributes["fundus.chunk"])
        assert line["trace"] == fetch.trace_id
    (ready,) = (line for line in told.log() if line["event"] == "ready")
    assert not ready.keys() & {"run", "chunk", "image", "trace"}
