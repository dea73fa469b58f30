"""A fit trains on the images that a worker would pass to its model."""

from pathlib import Path

import numpy as np

from tests.unit.worker.training.eyes import write_eyes
from worker.core.settings import parse_settings
from worker.imaging.headers.header import ImageLimits
from worker.imaging.steps.prepare import prepare_image
from worker.training.dataset import prepare_dataset, read_dataset
from worker.training.examples import read_examples
from worker.training.plan import DEFAULT_RECIPE


def test_images_equal_those_of_the_worker_and_keep_the_order_of_the_manifest(tmp_path: Path) -> None:
    settings, warnings, steps = parse_settings(), [], []
    manifest = write_eyes(tmp_path, 5)
    (tmp_path / "p0002.png").write_bytes(b"no picture")
    examples = read_examples(manifest, settings, warnings.append)
    prepare_dataset(
        examples,
        tmp_path,
        recipe=DEFAULT_RECIPE,
        manifest_sha256="0" * 64,
        settings=settings,
        on_progress=steps.append,
    )
    dataset = read_dataset(tmp_path)
    assert dataset.index.image_ids == ["p0000", "p0001", "p0003", "p0004"]
    assert dataset.grades.tolist() == [0, 2, 3, 4]
    assert dataset.index.patients == ["patient-0", "patient-0", "patient-1", "patient-2"]
    assert [(entry.image_id, entry.code) for entry in dataset.index.left_out] == [("p0002", "image_format")]
    assert (len(steps), warnings) == (5, [])
    assert len(set(dataset.index.pixel_hashes)) == 4
    for name, enhanced in zip(dataset.index.image_ids, dataset.enhanced, strict=True):
        data = (tmp_path / f"{name}.png").read_bytes()
        served = prepare_image(
            data, recipe=DEFAULT_RECIPE, overlay_size_px=settings.overlay_size_px, limits=ImageLimits()
        ).enhanced
        np.testing.assert_array_equal(enhanced, served)
