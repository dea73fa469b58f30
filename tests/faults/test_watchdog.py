"""Workers that run but do not work: their watchdog ends them, and a new worker continues."""

from pathlib import Path

import pytest

from tests.faults.conftest import Verify
from tests.faults.deployment import Deployment
from tests.faults.fault_run import fault_run
from tests.faults.hooks import Hooks
from tests.integration.processes import fundus, fundus_json
from worker.core.messaging.broker import make_celery
from worker.core.settings import parse_settings
from worker.inference.watchdog import EXIT_STUCK

STUCK_AFTER_S = 4


@pytest.mark.slow
def test_stalled_consumer_ends_the_worker(minimal: Deployment, small_bundle: Path, verify: Verify) -> None:
    hooks = Hooks(folder=minimal.folder, stuck_after_s=STUCK_AFTER_S)
    with fault_run(minimal, small_bundle, images=200, hooks=hooks) as run:
        run.until_settled(0.1)
        broker_url = minimal.env["FUNDUS_BROKER_URL"]
        make_celery(parse_settings(broker_url=broker_url)).control.cancel_consumer("bulk")
        run.until_killed(1)
        verify("worker no longer consumes", run)
        assert run.supervisor.exits == [EXIT_STUCK]
        assert "messages are queued and none was taken" in run.supervisor.logs


@pytest.mark.slow
def test_hanging_device_ends_the_worker(minimal: Deployment, small_bundle: Path, verify: Verify) -> None:
    hooks = Hooks(folder=minimal.folder, stuck_after_s=STUCK_AFTER_S, hangs_at_batch=4)
    with fault_run(minimal, small_bundle, images=60, hooks=hooks) as run:
        run.until_killed(1)
        verify("accelerator hangs", run)
        assert run.supervisor.exits == [EXIT_STUCK]
        assert "chunks in flight made no progress" in run.supervisor.logs


@pytest.mark.slow
def test_health_probe_passes_only_while_a_worker_runs(minimal: Deployment, small_bundle: Path, tmp_path: Path) -> None:
    heartbeats = tmp_path / "heartbeats"
    heartbeats.mkdir()
    env = {**minimal.env, "TMPDIR": str(heartbeats)}
    assert fundus("doctor", "--worker", env=env, check=False).returncode == 1
    with fault_run(minimal, small_bundle, images=10, env={"TMPDIR": str(heartbeats)}) as run:
        found = fundus_json("doctor", "--worker", env=env)
        assert found["ok"]
        assert [check["name"] for check in found["checks"]] == ["worker"]
        assert f"process {run.supervisor.workers[0].pid} " in found["checks"][0]["detail"]
        run.finish()
    assert fundus("doctor", "--worker", env=env, check=False).returncode == 1
