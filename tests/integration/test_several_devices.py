"""One worker process per device: throughput scales with devices, and all drain on a stop."""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg
import pytest

from tests.faults.numbered_photographs import write_photographs
from tests.integration.processes import fundus, fundus_json, wait_until_finished, worker
from tests.integration.stub_devices import PROGRAM, devices, images_by_device, stub_settings, wait_for_images
from tests.services.seaweedfs import Bucket

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

IMAGES = 96


@pytest.fixture
def env(tmp_path: Path, postgres_url: str, broker_url: str, bucket: Bucket) -> dict[str, str]:
    write_photographs(tmp_path / "photographs", IMAGES)
    return stub_settings(postgres_url, broker_url, bucket, tmp_path)


def seconds_of(run: str, env: Mapping[str, str]) -> float:
    """Return the time from the creation of a run to its last settled image."""
    with psycopg.connect(env["FUNDUS_DATABASE_URL"]) as connection:
        row = connection.execute(
            "SELECT extract(epoch FROM max(settled_at) - min(created_at))::float FROM gradings"
            " JOIN runs USING (run_id) WHERE name = %s",
            [run],
        ).fetchone()
    assert row is not None
    return float(row[0])


def test_two_devices_are_twice_as_fast_as_one(env: dict[str, str], tmp_path: Path) -> None:
    photographs = str(tmp_path / "photographs")
    duration_s = {}
    for count in (1, 2):
        before = images_by_device(tmp_path)
        with devices(count, env):
            fundus("enqueue", photographs, "--run", f"by-{count}", env=env)
            status = wait_until_finished(f"by-{count}", env)
        assert status["graded"] == IMAGES
        duration_s[count] = seconds_of(f"by-{count}", env)
        share = {name: images - before.get(name, 0) for name, images in images_by_device(tmp_path).items()}
        assert sum(share.values()) == IMAGES
        assert len(share) == count
        assert min(share.values()) > IMAGES / count * 0.8
        print(f"{count} worker(s): {IMAGES / duration_s[count]:.1f} images/s, {share}")  # noqa: T201 - for `pytest -s`
    assert 1.6 < duration_s[1] / duration_s[2] < 2.1


def running_pids(folder: Path) -> set[int]:
    return {int(path.stem) for path in folder.rglob("*.heartbeat")}


def wait_for_pids(folder: Path, *, without: int = 0) -> set[int]:
    """Wait until two processes work that are not this one."""
    deadline = time.monotonic() + 120
    while len(pids := running_pids(folder) - {without}) < 2:
        assert time.monotonic() < deadline, pids
        time.sleep(0.1)
    return pids


def test_processes_of_one_command_share_a_device_and_a_killed_one_is_replaced(
    env: dict[str, str], tmp_path: Path
) -> None:
    heartbeats = tmp_path / "tmp"
    heartbeats.mkdir()
    own = {**env, "CUDA_VISIBLE_DEVICES": "0", "TMPDIR": str(heartbeats), "FUNDUS_LEASE_S": "10"}
    with worker(own, tmp_path / "worker.log", *PROGRAM, "--processes", "2", "--name", "gpu"):
        (killed, *_) = sorted(wait_for_pids(heartbeats))
        fundus("enqueue", str(tmp_path / "photographs"), "--run", "night", env=env)
        wait_for_images(8, 1, tmp_path)
        os.kill(killed, signal.SIGKILL)
        wait_for_pids(heartbeats, without=killed)
        assert wait_until_finished("night", env)["graded"] == IMAGES
    assert running_pids(heartbeats) == set()
    assert (tmp_path / "worker.log").read_text().count("worker_process_replaced") == 1


def test_stopped_workers_drain_and_the_rest_is_graded_later(env: dict[str, str], tmp_path: Path) -> None:
    with devices(2, env):
        fundus("enqueue", str(tmp_path / "photographs"), "--run", "night", env=env)
        wait_for_images(8, 2, tmp_path)
    processed = sum(images_by_device(tmp_path).values())
    status = fundus_json("status", "night", env=env)
    assert 16 <= status["graded"] == processed < IMAGES, "an image was predicted and not settled"
    with psycopg.connect(env["FUNDUS_DATABASE_URL"]) as connection:
        assert connection.execute("SELECT count(*) FROM gradings WHERE lease_token IS NOT NULL").fetchone() == (0,)
    with devices(2, env):
        assert wait_until_finished("night", env)["graded"] == IMAGES
    assert sum(images_by_device(tmp_path).values()) == IMAGES
