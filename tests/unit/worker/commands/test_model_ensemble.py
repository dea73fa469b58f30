import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from producer.cli import app
from tests.unit.worker.model.networks import SMALL, make_manifest, random_backbone_weights
from worker.model.bundle.ensemble import Ensemble, View, load_model
from worker.model.bundle.writer import write_bundle

NETWORK = {"architecture": SMALL, "target_layer": "last"}


@pytest.fixture
def bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    write_bundle(
        Path("a"),
        make_manifest(side=64, thresholds=(0.5, 0.5, 0.4, 0.5, 0.5), explained_outputs=(1, 2), **NETWORK),
        random_backbone_weights(SMALL, 64),
    )
    write_bundle(Path("b"), make_manifest(side=96, **NETWORK), random_backbone_weights(SMALL, 96, seed=1))


def fundus(*arguments: str, status: int = 0) -> str:
    outcome = CliRunner().invoke(app, ["model", *arguments])
    assert outcome.exit_code == status, outcome.output
    return outcome.output


def test_two_bundles_are_combined_and_shown(bundles: None) -> None:
    made = json.loads(fundus("ensemble", "./a", "./b", "--out", "both", "--weight", "1", "--weight", "3", "--json"))
    read = load_model("./both")
    assert isinstance(read, Ensemble)
    assert (read.model_id, read.name) == (made["model_id"], "both")
    assert [member.weight for member in read.manifest.members] == [1, 3]
    assert read.thresholds == (0.5,) * 5
    assert read.explained_outputs == (0, 4)
    shown = fundus("show", "./both")
    assert "x 3: as_is" in shown
    assert json.loads(fundus("show", "./both", "--json"))["model_id"] == read.model_id


def test_one_bundle_with_two_views_keeps_its_thresholds(bundles: None) -> None:
    assert "2 passes an image" in fundus("ensemble", "./a", "--looks", "mirrored", "--out", "twice")
    read = load_model("./twice")
    assert isinstance(read, Ensemble)
    assert read.manifest.members[0].views == (View.AS_IS, View.MIRRORED)
    assert read.thresholds[2] == 0.4
    assert read.explained_outputs == (1, 2)
    assert "./twice is itself an ensemble" in fundus("ensemble", "./twice", "./b", "--out", "more", status=2)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["./a"], "ensemble: content: Value error, one network with one view is not an ensemble"),
        (["./a", "./b", "--weight", "1"], "2 bundles have 1 weights"),
        (["./a", "./b", "--weight", "1", "--weight", "0"], "Input should be greater than 0"),
        (["./a", "densenet121-aptos-224"], "random has the crop none, densenet121-aptos-224 field"),
        (["./a", "./b", "--explain", "1"], "--explain 1 is not of the form LOWEST,HIGHEST, such as 1,2"),
        (["./a", "./b", "--explain", "2,1"], "explained_outputs: Value error, output 2 is above 1"),
        (["./a", "./b", "--explain", "1,5"], "explained_outputs.1: Input should be less than 5"),
        (["./a", "./b", "--name", "No"], "ensemble: name: String should match pattern"),
    ],
)
def test_bundles_that_cannot_be_averaged_are_rejected_with_the_reason(
    bundles: None, arguments: list[str], sentence: str
) -> None:
    assert sentence in " ".join(fundus("ensemble", *arguments, "--out", "new", status=2).split())
    assert not Path("new").exists()
