"""A PACS that is killed, rejects or drops requests, and workers that are killed while they read from it or publish."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.conftest import Verify
from tests.faults.deployment import Deployment
from tests.faults.fault_run import RUN, fault_run
from tests.faults.hooks import Hooks, Stage
from tests.faults.servers import Daemon, make_orthanc
from tests.integration.processes import fundus
from tests.services.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.services.orthanc import PASSWORD, USER, Orthanc, why_unavailable
from tests.services.published_objects import StoredObjects, read_objects

KILLS = 3


@dataclass(frozen=True)
class Pacs:
    """A PACS, which workers reach through the proxy, and the settings that name it."""

    archive: Orthanc
    daemon: Daemon
    proxy: FaultProxy
    env: dict[str, str]


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[Pacs]:
    if reason := why_unavailable():
        pytest.skip(reason)
    folder = tmp_path / "orthanc"
    folder.mkdir()
    daemon, archive = make_orthanc(folder)
    daemon.start()
    with fault_proxy(archive.port) as proxy:
        env = {
            "FUNDUS_DICOMWEB_URL": f"http://127.0.0.1:{proxy.port}/dicom-web",
            "FUNDUS_DICOMWEB_USER": USER,
            "FUNDUS_DICOMWEB_PASSWORD": PASSWORD,
            "FUNDUS_DICOMWEB_TIMEOUT_S": "2",
            "FUNDUS_PATIENT_KEY": "0123456789abcdef0123456789abcdef",
        }
        yield Pacs(archive, daemon, proxy, env)
    daemon.stop()


@pytest.mark.slow
def test_pacs_unreachable_for_30_s_loses_no_image(
    pacs: Pacs, minimal: Deployment, small_bundle: Path, verify: Verify
) -> None:
    with fault_run(minimal, small_bundle, images=60, pacs=pacs.archive, env=pacs.env) as run:
        run.until_settled(0.1)
        run.record_fault()
        pacs.daemon.kill()
        run.wait(30)
        pacs.daemon.start()
        verify("PACS: kill -9, 30 s unreachable", run)
        assert run.supervisor.exits == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("unavailable", retry_after_s=2), id="HTTP 503, Retry-After"),
        pytest.param(Fault("cut", after_bytes=10_000), id="answer cut"),
        pytest.param(Fault("stall"), id="black hole"),
    ],
)
def test_failing_requests_lose_no_image(
    fault: Fault, pacs: Pacs, minimal: Deployment, small_bundle: Path, verify: Verify, request: pytest.FixtureRequest
) -> None:
    with fault_run(minimal, small_bundle, images=60, pacs=pacs.archive, env=pacs.env) as run:
        run.until_settled(0.1)
        run.record_fault()
        pacs.proxy.inject(fault, times=12)
        verify(f"PACS: {request.node.callspec.id}, 12 connections", run)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_worker_killed_while_it_reads_from_the_pacs_loses_nothing(
    pacs: Pacs, minimal: Deployment, small_bundle: Path, verify: Verify
) -> None:
    # An image that is alone in a worker counts as a suspect when that worker is killed by chance.
    env = {**pacs.env, "FUNDUS_MAX_ATTEMPTS": "10"}
    with fault_run(minimal, small_bundle, images=60, pacs=pacs.archive, env=env) as run:
        while len(run.faults) < KILLS:
            run.until(lambda: bool(run.supervisor.ready_workers()))
            # Its requests are held back, so that it has images in flight.
            pacs.proxy.inject(Fault("slow", delay_s=0.2))
            run.wait(run.random.uniform(1, 3))
            assert run.settled() < len(run.image_ids), "the run finished before the last kill"
            run.record_fault()
            run.supervisor.signal(0, signal.SIGKILL)
            run.until(lambda: len(run.supervisor.exits) == len(run.faults))
        pacs.proxy.inject(None)
        verify(f"worker killed {KILLS} times while it reads from the PACS", run, within_s=300)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["leased", "uploaded", "before_commit", "committing", "committed"])
def test_worker_killed_at_any_stage_leaves_one_report_and_one_overlay_of_each_photograph(
    stage: Stage, pacs: Pacs, minimal: Deployment, small_bundle: Path, verify: Verify
) -> None:
    env = {**pacs.env, "FUNDUS_MAX_ATTEMPTS": "10", "FUNDUS_PUBLISH": "sr,overlay"}
    hooks = Hooks(folder=minimal.folder, kill_at=stage, kills=2)
    with fault_run(minimal, small_bundle, images=20, pacs=pacs.archive, hooks=hooks, env=env) as run:
        run.until_killed(2)
        verify(f"worker killed: {stage}, photographs of a PACS", run)
        fundus("publish", RUN, env=minimal.env | env)
        assert read_objects(pacs.archive, run.image_ids) == StoredObjects(reports=20, overlays=20, twice=0)
