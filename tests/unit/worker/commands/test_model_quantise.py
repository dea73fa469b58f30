"""`fundus model quantise` on real photographs, tested on others."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.unit.worker.model.networks import make_small_bundle
from worker.commands.model import app
from worker.core.errors import FundusError, ModelError, SourceError, UsageError
from worker.model.bundle.activation_ranges import activation_range_shapes
from worker.model.bundle.bundle import load_bundle
from worker.model.bundle.writer import write_bundle
from worker.training import quantise as module

SAMPLES = Path(__file__).parents[4] / "producer" / "demo" / "samples"
BUNDLE = "densenet121-aptos-224"


def write_manifest(folder: Path, count: int) -> Path:
    photographs = sorted(SAMPLES.glob("IDRiD_*.jpg"))
    rows = [f"{photographs[number % len(photographs)]},{number},{number % 2}" for number in range(count)]
    manifest = folder / "eyes.csv"
    manifest.write_text("\n".join(["uri,image_id,reference_grade", *rows]) + "\n")
    return manifest


def run(folder: Path, *arguments: str, count: int = 64, bundle: str = BUNDLE) -> Any:
    manifest = write_manifest(folder, count)
    out = folder / "quick"
    options = ["--manifest", str(manifest), "--out", str(out), "--images", "32", *arguments]
    environment = {"FUNDUS_SOURCE_ROOTS": f"{SAMPLES},{folder}"}
    return CliRunner().invoke(app, ["quantise", bundle, *options], env=environment)


def assert_rejected(outcome: Any, kind: type[FundusError], sentence: str, folder: Path) -> None:
    assert isinstance(outcome.exception, kind)
    assert sentence in str(outcome.exception)
    assert not (folder / "quick").exists()


def test_bundle_is_the_same_model_with_activation_ranges(tmp_path: Path) -> None:
    outcome = run(tmp_path, "--json")
    assert outcome.exit_code == 0, outcome.output
    found = json.loads(outcome.stdout)
    quick, before = load_bundle(tmp_path / "quick"), load_bundle(BUNDLE)
    assert found["model_id"] == quick.model_id == before.model_id
    assert (found["precision"], found["images"]) == ("int8", 32)
    assert found["same_grades"] >= 0.997
    assert quick.activation_ranges is not None
    assert quick.activation_ranges.keys() == activation_range_shapes().keys()
    assert (tmp_path / "quick" / "split.csv").exists()


def test_bundle_is_not_written_if_int8_misses_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = module.measure_activation_ranges

    def a_tenth(*arguments: Any) -> dict[str, Any]:
        return {layer: np.float32(0.1) * array for layer, array in measure(*arguments).items()}

    monkeypatch.setattr(module, "measure_activation_ranges", a_tenth)
    assert_rejected(
        run(tmp_path),
        ModelError,
        f"{BUNDLE}: INT8 misses the acceptance limits on 32 photographs: same grade",
        tmp_path,
    )


def test_invalid_call_is_rejected_in_one_line(tmp_path: Path) -> None:
    assert_rejected(
        run(tmp_path, count=63), SourceError, "the test set has 31 of the 63 photographs, 32 are needed", tmp_path
    )
    assert_rejected(
        run(tmp_path, count=20),
        SourceError,
        "the calibration set has 20 of the 20 photographs, 32 are needed",
        tmp_path,
    )
    assert_rejected(run(tmp_path, bundle="none-such"), ModelError, "no model bundle 'none-such'", tmp_path)


def test_existing_folder_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "quick").mkdir()
    outcome = run(tmp_path)
    assert isinstance(outcome.exception, UsageError)
    assert not list((tmp_path / "quick").iterdir())


def test_ensemble_is_rejected(tmp_path: Path) -> None:
    twice = tmp_path / "twice"
    single = make_small_bundle()
    write_bundle(tmp_path / "single", single.manifest, single.weights)
    made = CliRunner().invoke(app, ["ensemble", str(tmp_path / "single"), "--looks", "mirrored", "--out", str(twice)])
    assert made.exit_code == 0, made.output
    assert_rejected(
        run(tmp_path, bundle=str(twice)), UsageError, "is an ensemble; INT8 supports single networks only", tmp_path
    )
