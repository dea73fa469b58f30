"""Two models share one queue and the same photographs; each grades only its runs."""

from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.faults.bundles import write_small_bundle
from tests.faults.numbered_photographs import write_photographs
from tests.integration.processes import fundus, fundus_json, wait_until_finished, worker
from tests.integration.stub_devices import PROGRAM, images_by_device, stub_settings
from tests.services.seaweedfs import Bucket
from worker.model.bundle.bundle import load_bundle

# A chunk taken by the worker of the other model is sent again after a minute.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

IMAGES = 16


def test_new_model_shadows_the_old_one_and_is_compared_with_it(
    tmp_path: Path, postgres_url: str, broker_url: str, bucket: Bucket
) -> None:
    photographs = str(tmp_path / "photographs")
    write_photographs(Path(photographs), IMAGES)
    write_small_bundle(tmp_path / "new")
    bundles = {"night": "densenet121-aptos-224", "shadow": str(tmp_path / "new")}
    models = {run: load_bundle(bundle).model_id for run, bundle in bundles.items()}
    env = stub_settings(postgres_url, broker_url, bucket, tmp_path)
    with ExitStack() as workers:
        for device, (run, bundle) in enumerate(bundles.items()):
            own = {**env, "FUNDUS_MODEL": bundle, "CUDA_VISIBLE_DEVICES": str(device)}
            workers.enter_context(worker(own, tmp_path / f"{run}.log", *PROGRAM, "--name", f"gpu-{device}"))
        for run, model in models.items():
            fundus("enqueue", photographs, "--run", run, "--model", model, env=env)
        for run in models:
            assert wait_until_finished(run, env, within_s=240)["graded"] == IMAGES
    with psycopg.connect(postgres_url) as connection:
        used = "SELECT name, gradings.model_id, count(*) FROM gradings JOIN runs USING (run_id) GROUP BY 1, 2"
        assert sorted(connection.execute(used)) == [(run, model, IMAGES) for run, model in models.items()]
    assert images_by_device(tmp_path) == {"device-0": IMAGES, "device-1": IMAGES}
    assert fundus_json("compare", "night", "shadow", env=env)["same"] == IMAGES
