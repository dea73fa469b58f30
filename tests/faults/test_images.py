"""Images that crash a worker or a decoder: they fail alone, and all other images are graded."""

from pathlib import Path

import pytest

from tests.faults.conftest import Verify
from tests.faults.deployment import Deployment
from tests.faults.fault_run import fault_run
from tests.faults.hooks import Hooks


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_image_that_kills_its_worker_is_quarantined_alone(
    workers: int, full: Deployment, small_bundle: Path, verify: Verify
) -> None:
    hooks = Hooks(folder=full.folder, killer="p0013.png")
    with fault_run(full, small_bundle, images=60, workers=workers, hooks=hooks) as run:
        run.until_killed(3)
        verify(
            f"image kills its worker, {workers} workers", run, expected={"graded": 59, "quarantined": 1}, within_s=240
        )
        assert full.rows("SELECT image_id, attempts FROM gradings WHERE status = 'quarantined'") == [("p0013", 3)]
        assert len(run.supervisor.exits) == 3


@pytest.mark.slow
def test_images_that_harm_their_decoder_fail_alone(full: Deployment, small_bundle: Path, verify: Verify) -> None:
    """A segmentation fault, an endless decode, and an allocation of twice the memory limit."""
    replaced = {"p0007": b"segfault", "p0021": b"hang", "p0040": b"hog"}
    env = {"FUNDUS_DECODE_TIMEOUT_S": "3"}
    hooks = Hooks(folder=full.folder, rogue_decoder=True)
    with fault_run(full, small_bundle, images=60, hooks=hooks, replaced=replaced, env=env) as run:
        verify("image crashes, hangs or bloats its decoder", run, expected={"graded": 57, "failed": 3})
        failed = dict(full.rows("SELECT image_id, error_code FROM gradings WHERE status = 'failed'"))
        crash = "image_decoder_crash"
        assert failed == {"p0007": crash, "p0021": crash, "p0040": "image_too_large"}
        assert run.supervisor.exits == []
