"""The probe distinguishes a working worker, a stuck one and no worker."""

import os
import time
from pathlib import Path

import pytest

from producer.doctor.check import CheckStatus
from producer.doctor.workers import check_workers
from worker.core.telemetry.heartbeat import remove_heartbeat, touch_heartbeat


@pytest.fixture(autouse=True)
def _own_heartbeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def heartbeat_file(tmp_path: Path) -> Path:
    (path,) = tmp_path.rglob("*.heartbeat")
    return path


def test_recent_heartbeat_is_ok() -> None:
    touch_heartbeat()
    (check,) = check_workers()
    assert (check.status, check.remedy) == (CheckStatus.OK, None)
    assert check.detail == f"last heartbeat of process {os.getpid()} 0 s ago"


def test_heartbeat_older_than_a_minute_is_a_failure(tmp_path: Path) -> None:
    touch_heartbeat()
    then = time.time() - 90
    os.utime(heartbeat_file(tmp_path), (then, then))
    (check,) = check_workers()
    assert check.status == CheckStatus.FAILED
    assert check.detail == f"last heartbeat of process {os.getpid()} 90 s ago"


def test_no_worker_is_a_failure() -> None:
    touch_heartbeat()
    remove_heartbeat()
    (check,) = check_workers()
    assert (check.status, check.detail) == (CheckStatus.FAILED, "no worker of this user is running on this machine")


def test_heartbeat_file_of_a_killed_worker_does_not_count(tmp_path: Path) -> None:
    touch_heartbeat()
    # No process has this id: pid_max is the limit.
    limit = Path("/proc/sys/kernel/pid_max").read_text().strip()
    heartbeat_file(tmp_path).rename(heartbeat_file(tmp_path).with_name(f"{limit}.heartbeat"))
    (check,) = check_workers()
    assert check.status == CheckStatus.FAILED


def test_heartbeat_folder_is_private_to_the_user(tmp_path: Path) -> None:
    touch_heartbeat()
    assert heartbeat_file(tmp_path).parent.stat().st_mode & 0o777 == 0o700
