"""Recovery time from the main faults with the default settings; other tests use shorter timeouts."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import Verify
from tests.faults.deployment import QUICK, Deployment
from tests.faults.fault_run import FaultRun, fault_run


def kill_worker(deployment: Deployment, run: FaultRun) -> None:
    run.supervisor.signal(0, signal.SIGKILL)


def empty_broker(deployment: Deployment, run: FaultRun) -> None:
    deployment.broker.empty()


def stop_database(deployment: Deployment, run: FaultRun) -> None:
    assert deployment.postgres is not None
    deployment.postgres.kill()
    run.wait(30)
    deployment.postgres.start()


def stop_storage(deployment: Deployment, run: FaultRun) -> None:
    assert deployment.seaweedfs is not None
    deployment.seaweedfs.kill()
    run.wait(30)
    deployment.seaweedfs.start()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("fault", "longest_s"),
    [(kill_worker, 150), (empty_broker, 100), (stop_database, 120), (stop_storage, 150)],
)
def test_run_recovers_in_time_with_default_settings(
    fault: Callable[[Deployment, FaultRun], None],
    longest_s: float,
    full: Deployment,
    small_bundle: Path,
    verify: Verify,
) -> None:
    full.env = {name: value for name, value in full.env.items() if name not in QUICK}
    with fault_run(full, small_bundle, images=320) as run:
        run.until_settled(0.1)
        run.record_fault()
        fault(full, run)
        verify(f"default settings: {fault.__name__.replace('_', ' ')}", run, within_s=400)
        assert run.recovery_s() < longest_s
