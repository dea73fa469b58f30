"""The probe tells a worker that works from one that hangs and from none."""

import os
import time
from pathlib import Path

import pytest

from producer.doctor.check import Verdict
from producer.doctor.workers import check_workers
from worker.core.telemetry.heartbeat import remove_heartbeat, touch_heartbeat


@pytest.fixture(autouse=True)
def _own_heartbeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def heartbeat_file(tmp_path: Path) -> Path:
    (path,) = tmp_path.rglob("*.heartbeat")
    return path


def test_worker_that_has_just_beaten_is_well() -> None:
    touch_heartbeat()
    (check,) = check_workers()
    assert (check.verdict, check.remedy) == (Verdict.OK, None)
    assert check.detail == f"process {os.getpid()} gave a sign of life 0 s ago"


def test_worker_that_was_silent_for_over_a_minute_hangs(tmp_path: Path) -> None:
    touch_heartbeat()
    then = time.time() - 90
    os.utime(heartbeat_file(tmp_path), (then, then))
    (check,) = check_workers()
    assert check.verdict == Verdict.FAILED
    assert check.detail == f"process {os.getpid()} gave a sign of life 90 s ago"


def test_no_worker_is_a_failure() -> None:
    touch_heartbeat()
    remove_heartbeat()
    (check,) = check_workers()
    assert (check.verdict, check.detail) == (Verdict.FAILED, "no worker of this user is ready on this machine")


def test_what_a_killed_worker_left_behind_is_no_worker(tmp_path: Path) -> None:
    touch_heartbeat()
    # No process can have this id: it is the limit itself.
    limit = Path("/proc/sys/kernel/pid_max").read_text().strip()
    heartbeat_file(tmp_path).rename(heartbeat_file(tmp_path).with_name(f"{limit}.heartbeat"))
    (check,) = check_workers()
    assert check.verdict == Verdict.FAILED


def test_only_the_user_can_look_into_the_folder(tmp_path: Path) -> None:
    touch_heartbeat()
    assert heartbeat_file(tmp_path).parent.stat().st_mode & 0o777 == 0o700
