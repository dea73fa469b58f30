"""Each source is left out in turn; nothing of it reaches the fit."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.unit.worker.training.eyes import write_eyes
from worker.commands.model import app
from worker.core.errors import SettingsError, SourceError
from worker.model.network.backend import BACKENDS
from worker.training.cross_validation import METRICS, average_results, split_without
from worker.training.dataset import Dataset, DatasetIndex
from worker.training.plan import DEFAULT_RECIPE, Plan

COUNT = 300
SOURCES = ("a", "b", "c")
PLAN = Plan(manifest_sha256="0" * 64, recipe=DEFAULT_RECIPE)


def dataset(sources: list[str], patients: list[str | None] | None = None, grades: list[int] | None = None) -> Dataset:
    count = len(sources)
    random = np.random.default_rng(0)
    index = DatasetIndex(
        recipe=DEFAULT_RECIPE,
        manifest_sha256="0" * 64,
        image_ids=[f"i{number}" for number in range(count)],
        grades=grades or [number // 3 % 5 for number in range(count)],
        patients=patients or [None] * count,
        pixel_hashes=[random.bytes(32).hex() for _ in range(count)],
        sources=list(sources),
        left_out=[],
    )
    return Dataset(np.zeros((count, 1, 1, 3), np.uint8), index)


ALL = [SOURCES[number % 3] for number in range(COUNT)]


def test_source_that_is_left_out_is_in_no_part_of_the_fit() -> None:
    split, left_out = split_without("b", PLAN, dataset(ALL))
    assert set(np.array(ALL)[split.training]) == set(np.array(ALL)[split.validation]) == {"a", "c"}
    assert left_out.tolist() == list(range(1, COUNT, 3))
    assert not set(split.training) & set(split.validation)
    assert len(split.training) + len(split.validation) == COUNT * 2 // 3


def test_patient_of_two_sources_is_in_no_part_of_the_fit() -> None:
    patients: list[str | None] = [f"p{number}" for number in range(COUNT)]
    patients[0] = patients[1]  # The first image of source a, and the first of b.
    split, left_out = split_without("b", PLAN, dataset(ALL, patients))
    assert 0 not in split.training
    assert 0 not in split.validation
    assert 1 in left_out


def test_limit_applies_to_each_source() -> None:
    split, left_out = split_without("c", PLAN.model_copy(update={"images_per_source": 60}), dataset(ALL))
    assert len(left_out) == 60
    assert len(split.training) + len(split.validation) == 120


def test_source_with_one_kind_of_image_is_refused_before_the_fit() -> None:
    grades = [4 if source == "a" else number % 5 for number, source in enumerate(ALL)]
    with pytest.raises(SourceError, match=r"source a has (\d+) referable of \1 validation photographs"):
        split_without("b", PLAN, dataset(ALL, grades=grades))


def test_mean_ignores_undefined_metrics() -> None:
    results = {
        name: dict.fromkeys(METRICS, value) | {"images": 9.0} for name, value in (("a", 0.5), ("b", 1.0), ("c", None))
    }
    assert average_results(results) == dict.fromkeys(METRICS, 0.75)


def test_backend_is_the_one_that_was_named(tmp_path: Path) -> None:
    import keras

    other = next(name for name in BACKENDS if name != keras.config.backend())
    pytest.importorskip(other)
    arguments = ["cross-validate", "--manifest", str(tmp_path / "eyes.csv"), "--out", str(tmp_path / "cv")]
    with pytest.raises(SettingsError, match=f"{other} needs a process of its own"):
        CliRunner().invoke(app, [*arguments, "--backend", other], catch_exceptions=False)


@pytest.mark.slow
def test_command_measures_each_source_once(tmp_path: Path) -> None:
    write_eyes(tmp_path, 120)
    header, *rows = (tmp_path / "eyes.csv").read_text().splitlines()
    sourced = [f"{row},{SOURCES[number // 2 % 3]}" for number, row in enumerate(rows)]
    (tmp_path / "eyes.csv").write_text("\n".join([f"{header},source", *sourced, ""]))
    arguments = ["cross-validate", "--manifest", str(tmp_path / "eyes.csv"), "--out", str(tmp_path / "cv"), "--json"]
    small = ["--size=32", "--epochs=1", "--backbone=EfficientNetLite0", "--precision=float32"]
    first = CliRunner().invoke(app, arguments + small, catch_exceptions=False)
    assert first.exit_code == 0, first.output
    document = json.loads(first.stdout)
    assert document["sources"].keys() == set(SOURCES)
    assert all(one["images"] == 40 for one in document["sources"].values())
    assert document["mean"]["referable_auc"] is not None
    (tmp_path / "cv" / "b" / "left_out.json").unlink()
    again = CliRunner().invoke(app, arguments + small, catch_exceptions=False)
    assert json.loads(again.stdout) == document
