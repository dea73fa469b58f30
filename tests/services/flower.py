"""Run Flower as the deployment does, and query its API."""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from producer.demo.embedded_valkey import stop_process
from tests.services.ports import reserve_port

CELERY = Path(sys.executable).with_name("celery")
USER, PASSWORD = "auditor", "correct horse battery"
COLUMNS = "name,kwargs,state,received,runtime,worker,uuid"
"""The columns that docker-compose.yml configures."""
START_TIMEOUT_S = 60
EVENT_TIMEOUT_S = 60


def get(url: str) -> Any:
    with urlopen(Request(url, headers=_credentials(PASSWORD)), timeout=10) as answer:
        return json.load(answer)


def http_status(url: str, *, password: str | None = None, method: str = "GET") -> int:
    headers = {} if password is None else _credentials(password)
    try:
        with urlopen(Request(url, headers=headers, method=method), timeout=10) as answer:
            return int(answer.status)
    except HTTPError as refusal:
        with refusal:
            return refusal.code


def chunk_tasks(url: str, state: str, count: int) -> list[dict[str, Any]]:
    """Wait until Flower shows `count` chunk tasks in a state, and return them; events arrive with a delay."""
    deadline = time.monotonic() + EVENT_TIMEOUT_S
    while True:
        tasks = get(f"{url}/api/tasks?taskname=fundus.grade_chunk&state={state}")
        if len(tasks) == count:
            return list(tasks.values())
        assert time.monotonic() < deadline, get(f"{url}/api/tasks")
        time.sleep(0.2)


@contextmanager
def flower(env: Mapping[str, str], log: Path) -> Iterator[str]:
    """Run Flower until the block ends; yields its URL once it responds."""
    port = reserve_port()
    own = {
        "FLOWER_BASIC_AUTH": f"{USER}:{PASSWORD}",
        "FLOWER_READ_ONLY": "true",
        "FLOWER_TASKS_COLUMNS": COLUMNS,
        "FLOWER_PORT": str(port),
        "FLOWER_ADDRESS": "127.0.0.1",
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [CELERY, "-A", "worker.app", "flower"], env={**env, **own}, stdout=out, stderr=out, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _responds(f"{url}/healthcheck"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield url
    finally:
        stop_process(process)


def _responds(url: str) -> bool:
    try:
        return http_status(url) == 200
    except URLError:
        return False


def _credentials(password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{USER}:{password}'.encode()).decode()}"}
