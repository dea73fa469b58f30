"""A worker that has lost its lease cannot replace the overlay of the worker that settled the image."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from tests.services.seaweedfs import Bucket
from tests.unit.worker.inference.pipelines import PHOTOGRAPH, predict_moderate, register_run, running_pipeline
from tests.unit.worker.ledger.ledger_rows import MODEL, add_model, add_run, graded, lease, overdue, row
from worker.core.errors import LeaseLostError
from worker.core.predictions import GradeDecision, Prediction
from worker.core.settings import Settings
from worker.core.storage.keys import overlay_key
from worker.core.storage.object_store import ObjectStore
from worker.core.storage.storage import Storage
from worker.core.vocabulary import Grade
from worker.inference.upload_overlay import upload_overlay
from worker.ledger.database import connect
from worker.ledger.leases import Lease, holds_lease, settle_chunk

KEY = f"night/{MODEL}/a.png"
DECISION = GradeDecision(Grade.MODERATE, referable=True, class_probabilities=np.full(5, 0.2, np.float32))


@pytest.fixture
def s3(bucket: Bucket, make_settings: Callable[..., Settings]) -> ObjectStore:
    return Storage(make_settings()).overlays


@pytest.fixture
def ledger(sqlite_url: str, make_settings: Callable[..., Settings]) -> Engine:
    engine = connect(make_settings(database_url=sqlite_url))
    add_model(engine)
    add_run(engine, ["a"])
    return engine


def take_lease(engine: Engine) -> Lease:
    overdue(engine, "a")
    held = lease(engine, 1, "a")
    assert held.images
    return held


def upload(
    store: ObjectStore, engine: Engine, held: Lease, content: bytes, is_held: Callable[[], bool] | None = None
) -> None:
    upload_overlay(
        store, content, run_name="night", model_id=MODEL, image_id="a", decision=DECISION, fmt="png",
        is_held=is_held or (lambda: holds_lease(engine, held, "a")),
    )  # fmt: skip


def finish(store: ObjectStore, engine: Engine, held: Lease, content: bytes) -> None:
    upload(store, engine, held, content)
    assert settle_chunk(engine, held, [graded("a")], {}, model_id=MODEL, retry_after_s=60) == 1


@pytest.mark.parametrize("store", ["folder", "s3"])
def test_overlay_of_a_settled_image_is_not_replaced(
    store: str, ledger: Engine, request: pytest.FixtureRequest, make_settings: Callable[..., Settings]
) -> None:
    request.getfixturevalue(store)
    overlays = Storage(make_settings()).overlays
    stalled = take_lease(ledger)
    finish(overlays, ledger, take_lease(ledger), b"settled")
    with pytest.raises(LeaseLostError, match="image a of run night is graded by another worker by now"):
        upload(overlays, ledger, stalled, b"late")
    assert overlays.get(KEY) == b"settled"


def test_holder_of_the_lease_replaces_the_overlay_of_a_stalled_worker(s3: ObjectStore, ledger: Engine) -> None:
    stalled, holder = take_lease(ledger), take_lease(ledger)
    upload(s3, ledger, stalled, b"early")
    finish(s3, ledger, holder, b"settled")
    assert s3.get(KEY) == b"settled"


def test_worker_that_stalls_between_the_check_of_its_lease_and_the_write_replaces_nothing(
    s3: ObjectStore, ledger: Engine
) -> None:
    stalled = take_lease(ledger)
    s3.put(KEY, b"of an earlier attempt", content_type="image/png", metadata={})
    checks = []

    def check_and_stall() -> bool:
        held = holds_lease(ledger, stalled, "a")
        if not checks:
            finish(s3, ledger, take_lease(ledger), b"settled")
        checks.append(held)
        return held

    with pytest.raises(LeaseLostError):
        upload(s3, ledger, stalled, b"late", check_and_stall)
    assert checks == [True, False]
    assert s3.get(KEY) == b"settled"


def test_store_that_ignores_conditions_gets_a_check_before_the_write(
    s3: ObjectStore, ledger: Engine, make_settings: Callable[..., Settings]
) -> None:
    storage = Storage(make_settings())

    def drop_conditions(request: Any, **_: object) -> None:
        for name in ("If-Match", "If-None-Match"):
            del request.headers[name]

    storage.client.meta.events.register("before-sign.s3.PutObject", drop_conditions)
    stalled = take_lease(ledger)
    finish(storage.overlays, ledger, take_lease(ledger), b"settled")
    with pytest.raises(LeaseLostError):
        upload(storage.overlays, ledger, stalled, b"late")
    assert s3.get(KEY) == b"settled"


def test_stalled_pipeline_changes_neither_overlay_nor_grade(
    tmp_path: Path, sqlite_url: str, bucket: Bucket, make_settings: Callable[..., Settings]
) -> None:
    settings = make_settings(
        database_url=sqlite_url, decode_processes=1, overlay_size_px=64, lease_s=3600.0, source_roots=str(tmp_path)
    )
    engine = connect(settings)
    photograph = tmp_path / "photograph.jpg"
    photograph.write_bytes(PHOTOGRAPH)
    predicting, settled = threading.Event(), threading.Event()

    def predict_late(batch: Sequence[Any]) -> list[Prediction]:
        predicting.set()
        assert settled.wait(120)
        return [Prediction(np.ones(5, np.float32), np.eye(7, dtype=np.float32)) for _ in batch]

    with (
        running_pipeline(settings, engine, predict=predict_late) as stalled,
        running_pipeline(settings, engine, predict=predict_moderate) as other,
    ):
        run_id = register_run(engine, "night", {"a": photograph.as_uri()})
        late = stalled.grade(run_id, "a")
        assert predicting.wait(120)
        overdue(engine, "a")
        assert other.grade(run_id, "a").result() == {"graded": 1}
        found = row(engine, "a")
        overlay = other.storage.overlays.get(found.overlay_key)
        settled.set()
        assert late.result() == {}
        assert other.storage.overlays.get(found.overlay_key) == overlay
    assert (row(engine, "a").grade, found.overlay_key) == (2, overlay_key("night", found.model_id, "a", "jpeg"))
