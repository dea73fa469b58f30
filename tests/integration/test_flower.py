"""Flower watches a real worker grade a real run, and shows it to nobody without a password."""

import base64
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from producer.embedded import free_port, stop
from tests.integration.processes import fundus, fundus_json, wait_until_finished, worker

SAMPLES = Path(__file__).parents[2] / "producer" / "samples"
CELERY = Path(sys.executable).with_name("celery")
USER, PASSWORD = "auditor", "correct horse battery"
READY_WITHIN_S = 60
SHOWN_WITHIN_S = 20


def credentials(password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{USER}:{password}'.encode()).decode()}"}


def get(url: str) -> Any:
    with urlopen(Request(url, headers=credentials(PASSWORD)), timeout=10) as answer:
        return json.load(answer)


def status_of(url: str, *, password: str | None = None, method: str = "GET") -> int:
    headers = {} if password is None else credentials(password)
    try:
        with urlopen(Request(url, headers=headers, method=method), timeout=10) as answer:
            return int(answer.status)
    except HTTPError as refusal:
        with refusal:
            return refusal.code


@contextmanager
def flower(env: dict[str, str], log: Path) -> Iterator[str]:
    """The address of a Flower that answers, started as the deployment starts it."""
    port = free_port()
    own = {
        "FLOWER_BASIC_AUTH": f"{USER}:{PASSWORD}",
        "FLOWER_READ_ONLY": "true",
        "FLOWER_PORT": str(port),
        "FLOWER_ADDRESS": "127.0.0.1",
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [CELERY, "-A", "worker.app", "flower"], env=env | own, stdout=out, stderr=out, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + READY_WITHIN_S
        while not _answers(f"{url}/healthcheck"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield url
    finally:
        stop(process)


def _answers(url: str) -> bool:
    try:
        return status_of(url) == 200
    except URLError:
        return False


def chunk_tasks(url: str, state: str, count: int) -> list[dict[str, Any]]:
    """The chunk tasks that Flower shows in a state, once there are `count`: events reach it a moment later."""
    deadline = time.monotonic() + SHOWN_WITHIN_S
    while True:
        tasks = get(f"{url}/api/tasks?taskname=fundus.grade_chunk&state={state}")
        if len(tasks) == count:
            return list(tasks.values())
        assert time.monotonic() < deadline, get(f"{url}/api/tasks")
        time.sleep(0.2)


@pytest.fixture
def env(tmp_path: Path, broker_url: str) -> dict[str, str]:
    return {
        "FUNDUS_DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}",
        "FUNDUS_BROKER_URL": broker_url,
        "FUNDUS_STORAGE_URL": (tmp_path / "store").as_uri(),
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
    }


def test_chunks_are_shown_to_who_has_the_password_and_stopped_by_nobody(env: dict[str, str], tmp_path: Path) -> None:
    fundus("db", "upgrade", env=env)
    with flower(env, tmp_path / "flower.log") as url, worker(env, tmp_path / "worker.log"):
        fundus_json("enqueue", str(SAMPLES / "manifest.csv"), "--run", "july", "--chunk", "4", env=env)
        wait_until_finished("july", env)
        tasks = chunk_tasks(url, "SUCCESS", 4)

        assert sorted(task["kwargs"] for task in tasks) == ["run=july, images=1", *["run=july, images=4"] * 3]
        assert {task["args"] for task in tasks} == {"()"}
        shown = json.dumps(get(f"{url}/api/tasks")) + json.dumps(get(f"{url}/api/workers?refresh=true"))
        assert not re.search(r"IDRiD|\.jpg|file://|sqlite|" + re.escape(str(SAMPLES)), shown)

        assert status_of(f"{url}/api/tasks") == 401
        assert status_of(f"{url}/") == 401
        assert status_of(f"{url}/api/tasks", password="wrong") == 401

        (name,) = get(f"{url}/api/workers?refresh=true")
        assert status_of(f"{url}/api/worker/shutdown/{name}", password=PASSWORD, method="POST") == 403
