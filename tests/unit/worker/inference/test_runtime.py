"""A runtime closes its resources on `close` and when its start fails."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from tests.services.ports import reserve_port
from worker.core import machine
from worker.core.errors import ModelError
from worker.core.messaging.broker import make_celery
from worker.core.settings import Settings
from worker.core.telemetry.heartbeat import read_heartbeats
from worker.core.vocabulary import Precision
from worker.inference import runtime
from worker.inference.runtime import Runtime
from worker.ledger.database import connect, read_transaction
from worker.ledger.schema import workers
from worker.model.bundle.ensemble import Model, load_model
from worker.model.engines.protocol import EngineDescription
from worker.model.engines.self_test import StartedEngine


class IdleEngine:
    """An engine that is never asked for a prediction."""

    description = EngineDescription("none", Precision.FLOAT32, "none", {})

    def __init__(self, model: Model) -> None:
        self.bundle = model

    def warm_up(self, batch_size: int) -> None:
        pass

    def predict(self, enhanced: object) -> list[object]:
        raise AssertionError(enhanced)


def start_idle(_name: str, _precision: str, model: Model, _golden: object, **_: object) -> StartedEngine:
    return StartedEngine(IdleEngine(model), None, 16)  # type: ignore[arg-type]


@pytest.fixture
def settings(make_settings: Callable[..., Settings], sqlite_url: str, broker_url: str) -> Settings:
    return make_settings(
        database_url=sqlite_url, broker_url=broker_url, decode_processes=1, metrics_port=reserve_port(), reports=False
    )


@pytest.fixture(autouse=True)
def _own_heartbeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield
    assert read_heartbeats() == []


def open_resources(settings: Settings) -> tuple[int, set[str], bool]:
    """Return the number of decoder processes, the threads of the runtime, and whether the metrics are served."""
    decoders = [child for child in psutil.Process().children() if "decoder" in " ".join(child.cmdline())]
    names = {"batcher", "pipeline", "leases", "reconciler", "watchdog", "progress"}
    threads = {thread.name for thread in threading.enumerate()} & names
    with socket.socket() as probe:
        return len(decoders), threads, probe.connect_ex(("127.0.0.1", settings.metrics_port or 0)) == 0


def test_close_ends_processes_threads_and_server(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "start_engine", start_idle)
    before = open_resources(settings)
    running = Runtime(settings, make_celery(settings))
    decoders, threads, is_served = open_resources(settings)
    assert decoders == before[0] + 1
    assert threads == {"batcher", "pipeline", "leases", "reconciler", "watchdog", "progress"}
    assert is_served
    assert len(read_heartbeats()) == 1
    running.close()
    assert open_resources(settings) == before


def test_start_logs_cores_and_warns_of_decoders_beyond_the_memory_limit(
    make_settings: Callable[..., Settings], sqlite_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "start_engine", start_idle)
    monkeypatch.setattr(machine, "read_memory_limit", lambda: 2**30)
    settings = make_settings(
        database_url=sqlite_url, broker_url=broker_url, decode_processes=1, decode_memory_mb=2048, reports=False
    )
    with capture_logs() as lines:
        Runtime(settings, make_celery(settings)).close()
    found = {line["event"]: line for line in lines}
    assert found["machine"]["cores"] == machine.usable_cores()
    assert found["decoders_exceed_memory"]["detail"].startswith(
        "1 decoding processes of 2048 MiB may use 2048 MiB, and this container's limit is 1024 MiB; fix: "
    )


def test_ledger_knows_a_worker_from_start_to_end(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_workers() -> list[tuple[str | None, str, bool]]:
        with read_transaction(engine) as connection:
            rows = connection.execute(select(workers.c.model_id, workers.c.queues, workers.c.stopped_at)).all()
        return [(row.model_id, row.queues, row.stopped_at is None) for row in rows]

    def see_loading(_name: str, _precision: str, model: Model, _golden: object, **_: object) -> StartedEngine:
        assert read_workers() == [(None, "live,bulk", True)]
        return start_idle(_name, _precision, model, _golden)

    engine = connect(settings)
    monkeypatch.setattr(runtime, "start_engine", see_loading)
    running = Runtime(settings, make_celery(settings))
    model_id = load_model(settings.model).model_id
    assert read_workers() == [(model_id, "live,bulk", True)]
    running.close()
    assert read_workers() == [(model_id, "live,bulk", False)]


def test_failed_start_closes_what_was_open(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_name: str, _precision: str, model: Model, _golden: object, **_: object) -> None:
        assert open_resources(settings) == (before[0] + 1, before[1], True)
        raise ModelError(f"{model.name} does not load")

    monkeypatch.setattr(runtime, "start_engine", refuse)
    before = open_resources(settings)
    with pytest.raises(ModelError, match="does not load"):
        Runtime(settings, make_celery(settings))
    assert open_resources(settings) == before
