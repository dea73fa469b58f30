"""The ledger is upgraded during a run, and workers of both versions share one queue: nothing is lost.

The new version is a copy of this one in another folder, with one more migration and its new column in the schema.
"""

import json
import os
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.faults.numbered_photographs import write_photographs
from tests.integration.processes import fundus, wait_until_finished, worker
from tests.integration.stub_devices import PROGRAM, images_by_device, stub_settings, wait_for_images
from tests.services.seaweedfs import Bucket
from tests.unit.worker.ledger.later_migrations import CONTRACTED, EXPANDED, write_later

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
IMAGES = 160
INTERPRETER, *STUB = PROGRAM


def replace_once(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, path
    path.write_text(text.replace(old, new))


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """Write the folder of a newer version whose migration only expands the schema."""
    folder = tmp_path / "later"
    for package in ("worker", "producer"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    versions = folder / "worker" / "ledger" / "migrations" / "versions"
    write_later(versions)
    (versions / "9002_contract.py").unlink()
    column = 'Column("settled_at", UtcDateTime, nullable=True),\n'
    priority = 'Column("priority", SmallInteger, nullable=False, server_default=text("1")),\n'
    replace_once(folder / "worker" / "ledger" / "schema.py", column, f"{column}    {priority}")
    replace_once(folder / "worker" / "__init__.py", '__version__ = "', '__version__ = "9.')
    return folder


def test_old_and_new_workers_finish_a_run_upgraded_in_progress(
    postgres_url: str, broker_url: str, bucket: Bucket, later: Path, tmp_path: Path
) -> None:
    photographs = str(tmp_path / "photographs")
    write_photographs(Path(photographs), IMAGES)
    env = stub_settings(postgres_url, broker_url, bucket, tmp_path)
    new_env = env | {"PYTHONPATH": f"{later}{os.pathsep}{ROOT}"}

    def new(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [INTERPRETER, "-P", "-m", "producer", *arguments]
        return subprocess.run(command, env={**os.environ, **new_env}, capture_output=True, text=True, check=False)

    def start(stack: ExitStack, device: int, settings: dict[str, str], *program: str) -> None:
        own = settings | {"CUDA_VISIBLE_DEVICES": str(device)}
        stack.enter_context(worker(own, tmp_path / f"worker-{device}.log", *program, "--name", f"gpu-{device}"))

    with ExitStack() as first, ExitStack() as others:
        start(first, 0, env, INTERPRETER, *STUB)
        fundus("enqueue", photographs, "--run", "night", "--limit", str(IMAGES // 2), env=env)
        wait_for_images(8, 1, tmp_path)

        upgraded = new("db", "upgrade")
        assert upgraded.returncode == 0, upgraded.stderr
        assert upgraded.stdout.startswith(f"schema revision {EXPANDED} (before: ")

        start(others, 1, new_env, INTERPRETER, "-P", *STUB)
        start(others, 2, env, INTERPRETER, *STUB)  # an old one that restarts, as after a crash
        # Only now: on a busy machine nothing might be left for the last workers.
        added = new("enqueue", photographs, "--run", "night")
        assert added.returncode == 0, added.stderr
        wait_for_images(8, 3, tmp_path)
        first.close()
        status = wait_until_finished("night", env)
    assert (status["total"], status["graded"]) == (IMAGES, IMAGES)
    processed = images_by_device(tmp_path)
    print(f"images by device: {processed}; 0 and 2 are old, 1 is new")  # noqa: T201 - for `pytest -s`
    assert sum(processed.values()) == IMAGES, "an image was graded twice"
    assert json.loads(new("db", "current", "--json").stdout)["needed"] == EXPANDED
    assert ledger(postgres_url) == [(IMAGES, IMAGES, 0)]


def test_old_version_rejects_a_contracted_ledger(
    postgres_url: str, broker_url: str, bucket: Bucket, later: Path, tmp_path: Path
) -> None:
    write_later(later / "worker" / "ledger" / "migrations" / "versions")
    env = stub_settings(postgres_url, broker_url, bucket, tmp_path)
    command = [INTERPRETER, "-P", "-m", "producer", "db", "upgrade"]
    later_env = {**os.environ, **env, "PYTHONPATH": f"{later}{os.pathsep}{ROOT}"}
    subprocess.run(command, env=later_env, capture_output=True, check=True)
    refused = fundus("worker", env=env, check=False)
    assert refused.returncode == 1
    assert (
        f"the database is at schema revision {CONTRACTED} and supports programs from revision {EXPANDED} on"
        in refused.stderr
    )
    assert "install a newer version" in refused.stderr


def ledger(url: str) -> list[tuple[Any, ...]]:
    """Return the number of rows, of graded rows with an overlay, and of leased rows."""
    query = (
        "SELECT count(*), count(*) FILTER (WHERE status = 'graded' AND overlay_key IS NOT NULL AND priority = 1),"
        " count(lease_token) FROM gradings"
    )
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()
