"""A worker logs and drops invalid messages on a real broker, and still grades every image."""

import base64
import json
import pickle
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis

from tests.integration.processes import fundus, fundus_json, wait_until_finished, worker

SAMPLES = Path(__file__).parents[2] / "producer" / "demo" / "samples"
GRADE, NIGHTLY = "fundus.grade_chunk", "fundus.nightly"
NOTHING = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def chunk(**changes: Any) -> dict[str, Any]:
    return {"version": 1, "run_id": 1, "image_ids": ["IDRiD_001"], **changes}


def push(
    broker: "Redis",
    body: bytes,
    *,
    task: str = GRADE,
    content_type: str = "application/json",
    headers: dict[str, Any] | None = None,
) -> None:
    """Put a message on the queue `bulk` as any client of the broker could."""
    task_id = str(uuid4())
    envelope = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "binary" if "python" in content_type else "utf-8",
        "content-type": content_type,
        "headers": {"lang": "py", "task": task, "id": task_id, "eta": None, "retries": 0, **(headers or {})},
        "properties": {
            "correlation_id": task_id,
            "delivery_info": {"exchange": "", "routing_key": "bulk"},
            "delivery_tag": str(uuid4()),
            "body_encoding": "base64",
            "delivery_mode": 2,
            "priority": 0,
        },
    }
    broker.lpush("bulk", json.dumps(envelope))


def payload(message: Any, args: Any = (), **embedded: Any) -> bytes:
    return json.dumps([list(args), {"message": message}, NOTHING | embedded]).encode()


@pytest.fixture
def env(tmp_path: Path, broker_url: str, small_model: dict[str, str]) -> dict[str, str]:
    return small_model | {
        "FUNDUS_DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}",
        "FUNDUS_BROKER_URL": broker_url,
        "FUNDUS_STORAGE_URL": (tmp_path / "store").as_uri(),
        "FUNDUS_RESEND_AFTER_S": "3",
        "FUNDUS_RECONCILE_EVERY_S": "1",
    }


def test_invalid_messages_are_logged_and_every_row_is_graded(
    env: dict[str, str], broker_url: str, tmp_path: Path
) -> None:
    fundus("db", "upgrade", env=env)
    fundus_json("enqueue", str(SAMPLES / "manifest.csv"), "--run", "night", "--limit", "2", env=env)
    stolen = tmp_path / "stolen"
    with Redis.from_url(broker_url) as broker:
        # The message of the run is lost; the others are of other versions, malformed or malicious.
        broker.delete("bulk")
        push(broker, payload(chunk(version=2)))
        push(broker, payload(chunk(version=0)))
        push(broker, payload(chunk(image_ids=["../../etc/passwd"])))
        push(broker, payload(chunk(path="/etc/passwd")))
        push(broker, payload(chunk(run_id=777)))
        push(broker, payload(chunk(image_ids=["unknown"])))
        push(broker, payload(chunk(image_ids=["x"] * 257)))
        push(broker, payload(chunk(image_ids=["x" * 70_000])))
        push(broker, payload(chunk(), args=[1]))
        push(broker, payload(chunk(), chain=[{"task": NIGHTLY, "args": [], "kwargs": {}, "options": {}}]))
        push(broker, payload(chunk()), headers={"eta": "2999-01-01T00:00:00+00:00"})
        push(broker, b"{")
        push(broker, b"[" * 60_000)
        push(broker, pickle.dumps(Thief(stolen)), content_type="application/x-python-serialize")
        push(broker, payload(chunk()), task="os.system")
        push(broker, payload(chunk()), task=NIGHTLY)
        broker.lpush("bulk", b"\x80\x04", b"[1]", b"{}", b"[" * 100_000)
    log = tmp_path / "worker.log"
    with worker(env, log):
        status = wait_until_finished("night", env)
    assert status["graded"] == 2
    assert not stolen.exists()
    logged = log.read_text()
    for words in (
        "message version 2 is not supported; this worker needs 1",
        "message version 0 is not supported; this worker needs 1",
        "image_ids.0: String should match pattern",
        "path: Extra inputs are not permitted",
        "the ledger has no run 777",
        "message_unknown_images",
        "image_ids: Tuple should have at most 256 items",
        "bytes; the limit is 65536",
        "message has an ETA; delayed delivery is not supported",
        "Refusing to deserialize",
        "os.system",
        "not valid JSON",
        "body: Field required",
        "date: Field required",
    ):
        assert words in logged, f"{words}\n{logged}"
    assert logged.count("arguments do not match task") == 2
    assert logged.count("cannot be decoded") == 3
    assert logged.count("message_refused") == 18


class Thief:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)
