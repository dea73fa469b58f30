"""After a crash, a clinic's image waits for one suspect, not for all of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from sqlalchemy import Engine

from tests.services.process import HUNG_AFTER_S
from tests.unit.worker.inference.pipelines import PHOTOGRAPH, predict_moderate, register_run, running_pipeline
from tests.unit.worker.ledger.ledger_rows import change
from worker.core.predictions import Prediction
from worker.core.settings import Settings
from worker.core.uris import file_uri


def test_live_chunk_passes_between_two_suspects(
    make_settings: Callable[..., Settings], engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "eye.jpg").write_bytes(PHOTOGRAPH)
    uri = file_uri(tmp_path / "eye.jpg")
    suspects = [f"suspect-{number}" for number in range(3)]
    night = register_run(engine, "night", dict.fromkeys(suspects, uri))
    clinic = register_run(engine, "clinic", {"live": uri})
    for name in suspects:
        change(engine, name, attempts=1)
    started: SimpleQueue[None] = SimpleQueue()
    allowed: SimpleQueue[None] = SimpleQueue()

    def predict(batch: Sequence[Any]) -> list[Prediction]:
        started.put(None)
        allowed.get(timeout=HUNG_AFTER_S)
        return predict_moderate(batch)

    settings = make_settings(decode_processes=1, overlay_size_px=64)
    with running_pipeline(settings, engine, predict=predict) as running:
        bulk = [running.grade(night, name) for name in suspects]
        started.get(timeout=HUNG_AFTER_S)
        lock = running.pipeline._suspect_lock
        while lock._exclusive_waiting < 2:
            assert not any(chunk.done() for chunk in bulk)
        live = running.grade(clinic, "live", urgent=True)
        while not lock._urgent_waiting:
            assert not live.done()
        for _ in range(2):
            allowed.put(None)
        assert live.result(HUNG_AFTER_S) == {"graded": 1}
        assert sum(chunk.done() for chunk in bulk) <= 1
        for _ in range(2):
            allowed.put(None)
        assert [chunk.result(HUNG_AFTER_S) for chunk in bulk] == [{"graded": 1}] * 3
