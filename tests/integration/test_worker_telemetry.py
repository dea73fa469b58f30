"""Metrics, traces and logs of a real worker agree with the ledger."""

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


class Observed:
    """One run graded by one worker, with its metrics, spans and log."""

    def __init__(self, folder: Path, metrics: Samples, spans: list[Span]) -> None:
        self.folder = folder
        self.metrics = metrics
        self.spans = spans

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "ledger.db")) as connection:
            return connection.execute(query).fetchall()

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        """Return the values of a metric above 0, by label values."""
        return {key[1:]: value for key, value in self.metrics.items() if key[0] == name and value}

    def log(self) -> Iterator[dict[str, Any]]:
        """Yield the JSON lines of the worker, without the output of libraries."""
        for line in (self.folder / "worker.log").read_text().splitlines():
            if line.startswith("{"):
                yield json.loads(line)


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory, valkey: str, small_model: dict[str, str]) -> Observed:
    folder = tmp_path_factory.mktemp("observed")
    port = reserve_port()
    env = small_model | {
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
            fundus_json("enqueue", str(SAMPLES / "manifest.csv"), "--run", "observed", env=env)
            wait_until_finished("observed", env)
            metrics = read(f"http://127.0.0.1:{port}/metrics")
    return Observed(folder, metrics, received.spans)


def test_outcomes_and_attempts_agree_with_the_ledger(observed: Observed) -> None:
    by_status = {(status,): n for status, n in observed.rows("SELECT status, count(*) FROM gradings GROUP BY 1")}
    assert by_status == {("graded",): 11, ("ungradable",): 1, ("failed",): 1}
    assert observed.counted("fundus_worker_images_total") == by_status
    by_grade = observed.rows("SELECT grade, count(*) FROM gradings WHERE grade IS NOT NULL GROUP BY 1")
    assert observed.counted("fundus_worker_graded_images_total") == {(str(grade),): n for grade, n in by_grade}
    by_code = observed.rows(
        "SELECT error_code, status, count(*) FROM gradings WHERE error_code IS NOT NULL GROUP BY 1, 2"
    )
    assert observed.counted("fundus_worker_errors_total") == {(code, status): n for code, status, n in by_code}
    ((attempts,),) = observed.rows("SELECT sum(attempts) FROM gradings")
    assert observed.counted("fundus_worker_attempts_total") == {("1",): attempts}
    assert (
        observed.metrics["fundus_worker_lost_images_total",] == observed.metrics["fundus_worker_chunks_in_flight",] == 0
    )


def test_bytes_agree_with_the_files(observed: Observed) -> None:
    sources = [Path(uri.removeprefix("file://")) for (uri,) in observed.rows("SELECT uri FROM images")]
    assert observed.metrics["fundus_worker_fetched_bytes_total",] == sum(path.stat().st_size for path in sources)
    overlays = [path for path in (observed.folder / "store").rglob("*") if path.is_file()]
    assert observed.metrics["fundus_worker_uploaded_bytes_total",] == sum(path.stat().st_size for path in overlays)


def test_every_stage_is_counted_once_per_image_or_chunk(observed: Observed) -> None:
    chunks = -(-13 // CHUNK)
    counts = {stage: n for (stage,), n in observed.counted("fundus_worker_stage_seconds_count").items()}
    of_images = {"fetch": 13, "prepare": 13, "wait": 11, "infer": 11, "draw": 11, "upload": 11}
    assert counts == {"lease": chunks, **of_images, "settle": chunks}
    assert observed.metrics["fundus_worker_batch_images_sum",] == 11
    busy = observed.metrics["fundus_worker_engine_busy_seconds_total",]
    # The INFER time of an image is that of its whole batch.
    assert 0 < busy <= observed.metrics["fundus_worker_stage_seconds_sum", "infer"]


def test_one_trace_covers_a_chunk_from_sending_to_settling(observed: Observed) -> None:
    traces = {span.trace_id: span for span in observed.spans if span.name == "send chunk"}
    assert len(traces) == -(-13 // CHUNK)
    graded = {image_id for (image_id,) in observed.rows("SELECT image_id FROM gradings WHERE status = 'graded'")}
    fetched = Counter[str]()
    for trace_id, sent in traces.items():
        (grading,) = (span for span in observed.spans if (span.trace_id, span.name) == (trace_id, "grade chunk"))
        assert (sent.service, grading.service) == ("fundus-producer", "fundus-worker")
        assert (sent.parent_id, grading.parent_id) == ("", sent.span_id)
        assert sent.attributes == {
            "fundus.run": "observed",
            "fundus.images": grading.attributes["fundus.images"],
            "fundus.queue": "bulk",
        }
        stages = [span for span in observed.spans if span.parent_id == grading.span_id]
        assert {span.attributes["fundus.chunk"] for span in stages} == {grading.attributes["fundus.chunk"]}
        of_images = {
            name: {s.attributes["fundus.image"] for s in stages if s.name == name} for name in ("fetch", "upload")
        }
        assert of_images["upload"] == of_images["fetch"] & graded
        assert Counter(s.name for s in stages)["settle"] == 1
        assert all(span.duration_s <= grading.duration_s for span in stages)
        fetched.update(of_images["fetch"])
    assert fetched == Counter(image_id for (image_id,) in observed.rows("SELECT image_id FROM gradings"))
    assert {span.trace_id for span in observed.spans} == set(traces)
    assert not re.search(r"\.jpg|file:|" + re.escape(str(SAMPLES)), str(observed.spans))


def test_log_lines_have_run_chunk_image_and_trace(observed: Observed) -> None:
    lines = {line["image"]: line for line in observed.log() if line["event"] in ("failed", "ungradable")}
    assert lines.keys() == {"not-an-image", "black-frame"}
    for image_id, line in lines.items():
        (fetch,) = (s for s in observed.spans if s.name == "fetch" and s.attributes["fundus.image"] == image_id)
        assert (line["run"], line["chunk"]) == ("observed", fetch.attributes["fundus.chunk"])
        assert line["trace"] == fetch.trace_id
        assert line["level"] == "warning"
    chunks = [line for line in observed.log() if line["event"] == "chunk_settled"]
    assert sorted(line["images"] for line in chunks) == [1, 4, 4, 4]
    assert sum(line.get("failed", 0) + line.get("ungradable", 0) for line in chunks) == 2
    assert not [line for line in observed.log() if line["logger"] in ("celery.app.trace", "celery.worker.strategy")]
    (ready,) = (line for line in observed.log() if line["event"] == "ready")
    assert not ready.keys() & {"run", "chunk", "image", "trace"}
