"""An object that its store refuses fails alone: others do not wait for it, and a store that is away fails no image."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.services.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.services.process import HUNG_AFTER_S
from tests.services.seaweedfs import Bucket, refuse_objects
from tests.unit.worker.inference.pipelines import PHOTOGRAPH, RunningPipeline, register_run, running_pipeline
from tests.unit.worker.ledger.ledger_rows import row
from worker.core.settings import Settings
from worker.core.uris import file_uri, s3_uri

LONG_S = 10 * HUNG_AFTER_S
"""Retry timeout that no test reaches: whatever waits for it counts as hung."""
PER_IMAGE = 3
"""Refusals after which an image fails."""


def put(bucket: Bucket, *keys: str) -> dict[str, str]:
    """Upload a photograph under each key; return image ids and URIs."""
    for key in keys:
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=PHOTOGRAPH)
    return {Path(key).stem: s3_uri(bucket.name, key) for key in keys}


def count_reads(running: RunningPipeline) -> Counter[str]:
    """Count the requests for each object from now on."""
    reads: Counter[str] = Counter()

    def count(request: Any, **_: object) -> None:
        if request.method == "GET":
            reads[Path(request.url).stem] += 1

    running.storage.client.meta.events.register("before-send.s3", count)
    return reads


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(decode_processes=1, transfer_threads=1, service_retry_timeout_s=LONG_S, overlay_size_px=64)


@pytest.fixture
def running(settings: Settings, bucket: Bucket, engine: Engine) -> Iterator[RunningPipeline]:
    settings = settings.model_copy(update={"s3_endpoint_url": bucket.endpoint_url, "storage_url": bucket.storage_url})
    with running_pipeline(settings, engine) as running:
        yield running


def test_refused_object_returns_to_the_queue_at_once_and_fails_after_three_refusals(
    running: RunningPipeline, bucket: Bucket, engine: Engine
) -> None:
    run = register_run(engine, "night", put(bucket, "a.jpg", "b.jpg", "c.jpg", "refused/d.jpg"))
    refuse_objects(bucket, "refused/*")
    reads = count_reads(running)
    assert running.grade(run, "a", "b", "c", "d").result(HUNG_AFTER_S) == {"graded": 3, "queued": 1}
    d = row(engine, "d")
    assert (d.status, d.attempts, d.refusals, d.error_code) == ("queued", 0, 1, "storage_refused")
    assert reads["d"] == 1
    for refusals in range(2, PER_IMAGE):
        assert running.grade(run, "d").result(HUNG_AFTER_S) == {"queued": 1}
        assert row(engine, "d").refusals == refusals
    assert running.grade(run, "d").result(HUNG_AFTER_S) == {"failed": 1}
    d = row(engine, "d")
    assert (d.status, d.error_code) == ("failed", "image_refused")
    assert d.error_detail == (
        f"cannot read s3://{bucket.name}/refused/d.jpg: AccessDenied (HTTP 403);"
        " refused 3 times, while the store served another object"
    )


def test_store_that_refuses_everything_fails_no_image(running: RunningPipeline, bucket: Bucket, engine: Engine) -> None:
    run = register_run(engine, "night", put(bucket, "a.jpg", "b.jpg"))
    assert running.grade(run, "a").result(HUNG_AFTER_S) == {"graded": 1}
    refuse_objects(bucket, "*.jpg")
    for refusals in range(1, PER_IMAGE + 3):
        assert running.grade(run, "b").result(HUNG_AFTER_S) == {"queued": 1}
        assert row(engine, "b").refusals == refusals
    bucket.client.delete_bucket_policy(Bucket=bucket.name)
    assert running.grade(run, "b").result(HUNG_AFTER_S) == {"graded": 1}


def test_graded_image_of_the_run_proves_that_the_store_serves(
    running: RunningPipeline, settings: Settings, bucket: Bucket, engine: Engine
) -> None:
    """A worker that has read nothing itself, as after a restart, knows it from the ledger."""
    run = register_run(engine, "night", put(bucket, "a.jpg", "refused/d.jpg"))
    refuse_objects(bucket, "refused/*")
    assert running.grade(run, "a", "d").result(HUNG_AFTER_S) == {"graded": 1, "queued": 1}
    fresh_settings = settings.model_copy(
        update={"s3_endpoint_url": bucket.endpoint_url, "storage_url": bucket.storage_url}
    )
    with running_pipeline(fresh_settings, engine) as fresh:
        assert fresh.grade(run, "d").result(HUNG_AFTER_S) == {"queued": 1}
        assert fresh.grade(run, "d").result(HUNG_AFTER_S) == {"failed": 1}


@pytest.fixture
def away(bucket: Bucket) -> Iterator[FaultProxy]:
    """A proxy to the store that answers every request with HTTP 503."""
    with fault_proxy(int(bucket.endpoint_url.rpartition(":")[2])) as proxy:
        proxy.inject(Fault("unavailable"))
        yield proxy


@pytest.mark.parametrize("urgent", [False, True])
def test_image_that_waits_for_its_store_holds_no_thread_and_no_batch(
    *, urgent: bool, settings: Settings, away: FaultProxy, bucket: Bucket, engine: Engine, tmp_path: Path
) -> None:
    """One transfer thread: chunks from a folder pass while the images of a bucket are retried."""
    (tmp_path / "eye.jpg").write_bytes(PHOTOGRAPH)
    in_bucket, in_folder = put(bucket, "a.jpg", "b.jpg"), {"c": file_uri(tmp_path / "eye.jpg")}
    waiting_run = register_run(engine, "waiting", in_bucket)
    run = register_run(engine, "night", in_folder)
    settings = settings.model_copy(
        update={"s3_endpoint_url": f"http://127.0.0.1:{away.port}", "max_wait_ms": 1000 * LONG_S}
    )
    with running_pipeline(settings, engine) as running:
        waiting = running.grade(waiting_run, "a", "b")
        while away.faults < 2:
            assert not waiting.done()
        assert running.grade(run, "c", urgent=urgent).result(HUNG_AFTER_S) == {"graded": 1}
        assert not waiting.done()
        away.inject(None)
        assert waiting.result(HUNG_AFTER_S) == {"graded": 2}
