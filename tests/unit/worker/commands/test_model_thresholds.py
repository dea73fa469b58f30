"""`fundus model thresholds` writes a bundle with thresholds for screening, chosen on labelled photographs by source."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.unit.worker.model.networks import make_small_bundle
from tests.unit.worker.training.eyes import write_eyes
from worker.commands.model import app
from worker.core.errors import UsageError
from worker.model.bundle.bundle import load_bundle
from worker.model.bundle.writer import write_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random bundle `model`, and `eyes.csv` with 24 photographs of two sources."""
    folder = tmp_path_factory.mktemp("thresholds")
    bundle = make_small_bundle(side=32)
    write_bundle(folder / "model", bundle.manifest, bundle.weights)
    write_eyes(folder, 24)
    with (folder / "eyes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "eyes.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "source"])
        writer.writeheader()
        writer.writerows({**row, "source": ("north", "south")[number % 2]} for number, row in enumerate(rows))
    return folder


def run(folder: Path, *options: str) -> str:
    arguments = ["thresholds", str(folder / "model"), "--validation", str(folder / "eyes.csv"), *options]
    outcome = CliRunner().invoke(app, arguments, env={"FUNDUS_ENGINE": "tensorflow"}, catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


def test_bundle_has_the_thresholds_and_the_rule(folder: Path, tmp_path: Path) -> None:
    document = json.loads(run(folder, "--out", str(tmp_path / "screening"), "--sensitivity", "0.7", "--json"))
    written = load_bundle(tmp_path / "screening").manifest
    assert written.model_id == document["model_id"]
    assert list(written.thresholds) == document["thresholds"]
    assert written.threshold_rule is not None
    assert written.threshold_rule.startswith("referable sensitivity of at least 0.70 on each source")
    assert written.threshold_rule.endswith("chosen on 24 held-out photographs of north, south")
    assert document["figures"].keys() == {"north", "south", "mean"}
    specificities = [document["figures"][source]["referable_specificity"] for source in ("north", "south")]
    assert min(specificities) >= 0.8


def test_table_shows_each_source(folder: Path, tmp_path: Path) -> None:
    lines = run(folder, "--out", str(tmp_path / "screening")).splitlines()
    rows = [line.split() for line in lines]
    assert [row[0] for row in rows if row and row[0] in ("north", "south", "mean")] == ["north", "south", "mean"]
    assert any(line.startswith("thresholds 0.50, ") for line in lines)


@pytest.mark.parametrize("value", ["0", "1", "1.5"])
def test_shares_outside_the_range_are_refused(folder: Path, tmp_path: Path, value: str) -> None:
    with pytest.raises(UsageError, match=f"--specificity {value} is not between 0 and 1"):
        run(folder, "--out", str(tmp_path / "b"), "--specificity", value)


def test_existing_folder_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="model exists; choose a new folder"):
        run(folder, "--out", str(folder / "model"))
