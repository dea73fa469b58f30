"""A store that rejects or drops requests, hangs, loses its bucket or access keys, or returns corrupt bytes."""

from pathlib import Path

import pytest

from tests.faults.conftest import Verify
from tests.faults.deployment import Deployment
from tests.faults.fault_run import fault_run
from tests.faults.hooks import Hooks
from tests.faults.servers import make_seaweedfs_with_other_keys
from tests.services.fault_proxy import Fault

ON_THE_WAY_IN = [
    pytest.param(Fault("unavailable"), 30, id="SlowDown"),
    pytest.param(Fault("reset"), 30, id="reset"),
    pytest.param(Fault("stall"), 12, id="black hole"),
    pytest.param(Fault("slow", delay_s=0.5), 30, id="slow"),
    pytest.param(Fault("cut", after_bytes=60), 30, id="response cut"),
    pytest.param(Fault("cut", after_bytes=1), 30, id="response of an upload lost"),
    pytest.param(Fault("end", after_bytes=60), 30, id="half-closed"),
]
ON_THE_WAY_OUT = [
    pytest.param(Fault("cut", after_bytes=20_000), id="body cut"),
    pytest.param(Fault("end", after_bytes=20_000), id="body half-closed"),
    pytest.param(Fault("slow", delay_s=0.5), id="body slow"),
    pytest.param(Fault("flip", after_bytes=150_000), id="body changed"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "times"), ON_THE_WAY_IN)
def test_failing_requests_lose_no_image(
    fault: Fault, times: int, full: Deployment, small_bundle: Path, verify: Verify, request: pytest.FixtureRequest
) -> None:
    with fault_run(full, small_bundle, images=120) as run:
        run.until_settled(0.1)
        run.record_fault()
        full.proxies["storage"].inject(fault, times=times)
        verify(f"storage: {request.node.callspec.id}, {times} connections", run)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ON_THE_WAY_OUT)
def test_photograph_that_arrives_damaged_is_fetched_again(
    fault: Fault, full: Deployment, small_bundle: Path, verify: Verify, request: pytest.FixtureRequest
) -> None:
    with fault_run(full, small_bundle, images=120, in_bucket=True) as run:
        run.until_settled(0.1)
        run.record_fault()
        full.proxies["storage"].inject(fault)
        run.wait(8)
        full.proxies["storage"].inject(None)
        verify(f"storage: {request.node.callspec.id} for 8 s", run)


@pytest.mark.slow
def test_store_that_rejects_requests_for_long_loses_no_image(
    full: Deployment, small_bundle: Path, verify: Verify
) -> None:
    """Longer than the retry timeout: images in flight are released to the queue."""
    with fault_run(full, small_bundle, images=120) as run:
        run.until_settled(0.1)
        run.record_fault()
        full.proxies["storage"].inject(Fault("unavailable"))
        run.wait(20)
        full.proxies["storage"].inject(None)
        verify("storage: SlowDown for 20 s", run)
        assert "released" in run.supervisor.logs


@pytest.mark.slow
def test_store_unreachable_for_30_s_loses_no_image(full: Deployment, small_bundle: Path, verify: Verify) -> None:
    assert full.seaweedfs is not None
    with fault_run(full, small_bundle, images=120) as run:
        run.until_settled(0.1)
        run.record_fault()
        full.seaweedfs.kill()
        run.wait(30)
        full.seaweedfs.start()
        verify("storage: kill -9, 30 s unreachable", run)
        assert run.supervisor.exits == []


@pytest.mark.slow
def test_missing_bucket_loses_no_image(full: Deployment, small_bundle: Path, verify: Verify) -> None:
    """Uploads are retried until the bucket is created."""
    assert full.s3 is not None
    with fault_run(full, small_bundle, images=60, env={"FUNDUS_STORAGE_URL": "s3://test-2/"}) as run:
        run.record_fault()
        run.wait(15)
        assert run.settled() == 0
        bucket = full.s3.create()
        assert bucket.name == "test-2"
        full.show(bucket)
        verify("storage: bucket missing for 15 s", run)


@pytest.mark.slow
def test_revoked_keys_lose_no_image(full: Deployment, small_bundle: Path, verify: Verify) -> None:
    """No image fails because of it, neither while fetching photographs nor while uploading overlays."""
    assert full.seaweedfs is not None
    assert full.s3 is not None
    strange = make_seaweedfs_with_other_keys(full.folder / "seaweedfs", full.s3)
    with fault_run(full, small_bundle, images=120, in_bucket=True) as run:
        run.until_settled(0.1)
        run.record_fault()
        full.seaweedfs.stop()
        strange.start()
        run.wait(15)
        assert "SignatureDoesNotMatch (HTTP 403)" in run.supervisor.logs
        strange.stop()
        full.seaweedfs.start()
        verify("storage: keys revoked and restored", run)


@pytest.mark.slow
def test_wrong_clock_loses_no_image(full: Deployment, small_bundle: Path, verify: Verify) -> None:
    (late := full.folder / "late").touch()
    hooks = Hooks(folder=full.folder, late_clock=late)
    with fault_run(full, small_bundle, images=60, hooks=hooks, in_bucket=True) as run:
        run.until(lambda: "RequestTimeTooSkewed (HTTP 403)" in run.supervisor.logs)
        late.unlink()
        run.record_fault()
        verify("storage: requests signed an hour late", run)


@pytest.mark.slow
def test_refused_objects_fail_without_delaying_others(full: Deployment, small_bundle: Path, verify: Verify) -> None:
    """A tenth of the objects is refused. The retry timeout is longer than the test, so nothing may wait for it."""
    refused = [f"p{number:04}" for number in range(5, 120, 10)]
    env = {"FUNDUS_SERVICE_RETRY_TIMEOUT_S": "600"}
    with fault_run(full, small_bundle, images=120, in_bucket=True, refused=refused, env=env) as run:
        verify("storage: a tenth of the objects refused", run, expected={"graded": 108, "failed": 12})
        failed = full.rows("SELECT image_id, error_code, refusals, attempts FROM gradings WHERE status = 'failed'")
        assert sorted(failed) == [(image_id, "image_refused", 2, 1) for image_id in refused]
        assert run.supervisor.logs.count("] released") == 2 * len(refused)
