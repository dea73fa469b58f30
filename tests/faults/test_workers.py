"""Workers killed at random and at every stage of a chunk, and workers stopped by a signal."""

import json
import signal
from pathlib import Path
from typing import get_args

import pytest

from tests.faults.conftest import Verify
from tests.faults.deployment import Deployment
from tests.faults.fault_run import fault_run
from tests.faults.hooks import Hooks, Stage

KILLS = 20


def test_kill_between_commit_and_acknowledgement_settles_nothing_twice(
    minimal: Deployment, small_bundle: Path, verify: Verify
) -> None:
    hooks = Hooks(folder=minimal.folder, kill_at="committed")
    with fault_run(minimal, small_bundle, images=40, hooks=hooks) as run:
        run.until_killed(1)
        verify("worker killed: committed (SQLite, folder)", run)
        assert run.supervisor.exits == [-signal.SIGKILL]


@pytest.mark.slow
def test_report_of_a_killed_worker_is_written_by_another(
    minimal: Deployment, small_bundle: Path, verify: Verify
) -> None:
    hooks = Hooks(folder=minimal.folder, kill_at="reporting")
    with fault_run(minimal, small_bundle, images=20, hooks=hooks) as run:
        run.until_killed(1)
        left = [key for key in sorted(minimal.keys()) if key.startswith("trial/report/")]
        assert left
        assert "trial/report/index.html" not in left
        assert minimal.rows("SELECT prefix, written_at FROM reports") == [("trial/report/", None)]
        run.until(lambda: minimal.rows("SELECT 1 FROM reports WHERE written_at IS NULL") == [])
        verify("worker killed: writing the report", run)
        files = json.loads(minimal.read("trial/report/summary.json"))["files"]
        written = [
            key.removeprefix("trial/report/") for key in sorted(minimal.keys()) if key.startswith("trial/report/")
        ]
        assert sorted(written) == sorted(files)


@pytest.mark.slow
@pytest.mark.parametrize("stage", get_args(Stage))
def test_kill_at_each_stage_loses_nothing(stage: Stage, full: Deployment, small_bundle: Path, verify: Verify) -> None:
    hooks = Hooks(folder=full.folder, kill_at=stage, kills=2)
    with fault_run(full, small_bundle, images=60, hooks=hooks, env={"FUNDUS_MAX_ATTEMPTS": "5"}) as run:
        run.until_killed(2)
        verify(f"worker killed: {stage}", run)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [1, 3])
def test_kills_at_random_moments_lose_nothing(
    workers: int, full: Deployment, small_bundle: Path, verify: Verify
) -> None:
    hooks = Hooks(folder=full.folder, image_takes_s=0.1)
    # An image that is alone in a worker counts as a suspect when that worker is killed by chance.
    env = {"FUNDUS_MAX_ATTEMPTS": "10"}
    with fault_run(full, small_bundle, images=500, workers=workers, hooks=hooks, env=env, seed=workers) as run:
        while len(run.faults) < KILLS:
            run.until(lambda: bool(run.supervisor.ready_workers()))
            run.wait(run.random.uniform(0, 2))
            assert run.settled() < len(run.image_ids), "the run finished before the last kill"
            run.record_fault()
            run.supervisor.signal(run.random.choice(run.supervisor.ready_workers()), signal.SIGKILL)
            run.until(lambda: len(run.supervisor.exits) == len(run.faults))
        verify(f"worker killed at random moments, {workers} workers", run, within_s=300)
        assert len(run.supervisor.exits) == KILLS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGTERM, 0, id="SIGTERM"),
        pytest.param(signal.SIGINT, 1, id="SIGINT"),
        pytest.param(signal.SIGQUIT, 0, id="SIGQUIT"),
    ],
)
def test_signal_in_the_middle_of_a_run_loses_nothing(
    number: signal.Signals, code: int, full: Deployment, small_bundle: Path, verify: Verify
) -> None:
    with fault_run(full, small_bundle, images=200) as run:
        run.until_settled(0.1)
        run.record_fault()
        run.supervisor.signal(0, number)
        run.until(lambda: bool(run.supervisor.exits), within_s=30)
        assert run.deployment.rows("SELECT 1 FROM gradings WHERE lease_token IS NOT NULL") == []
        verify(f"worker gets {number.name}", run)
        assert run.supervisor.exits == [code]
