"""A device without memory, and model files that are damaged before or while a worker runs."""

import shutil
from pathlib import Path

import pytest

from tests.faults.bundles import rename_architecture, truncate_weights, write_overflowing_bundle
from tests.faults.conftest import Verify
from tests.faults.deployment import Deployment
from tests.faults.fault_run import fault_run
from tests.faults.hooks import Hooks
from tests.integration.processes import fundus


@pytest.mark.slow
def test_batch_that_does_not_fit_is_halved_until_it_does(
    minimal: Deployment, small_bundle: Path, verify: Verify
) -> None:
    with fault_run(minimal, small_bundle, images=60, hooks=Hooks(folder=minimal.folder, fits_batch_of=3)) as run:
        verify("accelerator: memory for 3 images", run)
        assert run.supervisor.exits == []


@pytest.mark.slow
def test_image_with_nan_output_fails_alone(minimal: Deployment, small_bundle: Path, verify: Verify) -> None:
    hooks = Hooks(folder=minimal.folder, poisons_first_image=True)
    with fault_run(minimal, small_bundle, images=60, hooks=hooks) as run:
        verify("accelerator: NaN for one image", run, expected={"graded": 59, "failed": 1})
        assert minimal.rows("SELECT error_code FROM gradings WHERE status = 'failed'") == [("model_invalid",)]
        assert run.supervisor.exits == []


@pytest.mark.slow
def test_network_with_nan_outputs_stops_the_worker_at_start(minimal: Deployment, tmp_path: Path) -> None:
    write_overflowing_bundle(tmp_path / "overflowing")
    done = fundus("worker", env={**minimal.env, "FUNDUS_MODEL": str(tmp_path / "overflowing")}, check=False)
    assert done.returncode == 1
    assert "yields a value that is not finite" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_model_file_changed_under_a_worker_changes_no_grade(
    minimal: Deployment, small_bundle: Path, tmp_path: Path, verify: Verify
) -> None:
    """A running worker keeps its weights; a new one rejects the damaged file until it is restored."""
    bundle = tmp_path / "replaced"
    shutil.copytree(small_bundle, bundle)
    with fault_run(minimal, bundle, images=120) as run:
        run.until_settled(0.1)
        run.record_fault()
        truncate_weights(bundle)
        verify("model: file truncated under a worker", run)


@pytest.mark.slow
@pytest.mark.parametrize(("damage", "says"), [(truncate_weights, "SHA-256 is"), (rename_architecture, "architecture")])
def test_damaged_bundle_stops_the_worker_at_start(
    damage: object, says: str, minimal: Deployment, small_bundle: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "damaged"
    shutil.copytree(small_bundle, bundle)
    damage(bundle)  # type: ignore[operator]
    done = fundus("worker", env={**minimal.env, "FUNDUS_MODEL": str(bundle)}, check=False)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
