"""Leases are renewed, except for a chunk with a step that does not end."""

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.services.fault_proxy import Fault, fault_proxy
from tests.services.process import HUNG_AFTER_S
from tests.services.seaweedfs import Bucket
from tests.unit.worker.inference.pipelines import PHOTOGRAPH, predict_moderate, register_run, running_pipeline
from tests.unit.worker.ledger.ledger_rows import row
from worker.core.predictions import Prediction
from worker.core.settings import Settings
from worker.core.uris import file_uri, s3_uri
from worker.inference.watchdog import STUCK_AFTER_S


def test_only_leases_of_chunks_whose_steps_end_are_renewed(
    make_settings: Callable[..., Settings],
    bucket: Bucket,
    engine: Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One chunk hangs in a download, another waits for the device."""
    (tmp_path / "eye.jpg").write_bytes(PHOTOGRAPH)
    bucket.client.put_object(Bucket=bucket.name, Key="eye.jpg", Body=PHOTOGRAPH)
    now = [1_000.0]
    monkeypatch.setattr("worker.inference.activity_tracker.monotonic", lambda: now[0])
    predicting, answer = Event(), Event()

    def predict(batch: Sequence[Any]) -> list[Prediction]:
        predicting.set()
        answer.wait(HUNG_AFTER_S)
        return predict_moderate(batch)

    with fault_proxy(int(bucket.endpoint_url.rpartition(":")[2])) as proxy:
        proxy.inject(Fault("stall"))
        settings = make_settings(
            decode_processes=1,
            overlay_size_px=64,
            storage_url=(tmp_path / "store").as_uri(),
            s3_endpoint_url=f"http://127.0.0.1:{proxy.port}",
            s3_timeout_s=10 * HUNG_AFTER_S,
        )
        with running_pipeline(settings, engine, predict=predict) as running:
            hung = running.grade(register_run(engine, "a", {"hung": s3_uri(bucket.name, "eye.jpg")}), "hung")
            slow = running.grade(register_run(engine, "b", {"slow": file_uri(tmp_path / "eye.jpg")}), "slow")
            assert predicting.wait(HUNG_AFTER_S)
            while not proxy.faults:
                assert not hung.done()
            leased = {name: row(engine, name).due_at for name in ("hung", "slow")}
            running.pipeline.renew_leases()
            renewed = {name: row(engine, name).due_at for name in leased}
            assert all(renewed[name] > leased[name] for name in leased)
            now[0] += STUCK_AFTER_S
            running.pipeline.renew_leases()
            assert row(engine, "hung").due_at == renewed["hung"]
            assert row(engine, "slow").due_at > renewed["slow"]
            answer.set()
            proxy.inject(None)
            assert hung.result(HUNG_AFTER_S) == slow.result(HUNG_AFTER_S) == {"graded": 1}
