import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import pytest
from typer.testing import CliRunner

from tests.unit.worker.model.networks import SMALL, make_bundle, random_weights
from worker.commands.model import app
from worker.core.errors import ModelError, UsageError
from worker.model.bundle.bundle import DEFAULT_BUNDLE, list_pretrained, load_bundle, read_manifest
from worker.model.bundle.ensemble import Ensemble, load_model
from worker.model.bundle.writer import write_bundle
from worker.model.network.build import build_network


def run(*arguments: str) -> str:
    """What a command prints; its errors are raised, as the command line's top catches them."""
    outcome = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"}, catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome.output


def run_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keras") / "model.weights.h5"
    keras.utils.set_random_seed(0)
    build_network(32, SMALL).save_weights(file)
    return file


def test_list_has_each_pretrained_bundle_with_its_id_and_marks_the_default() -> None:
    pretrained = [load_model(name).manifest for name in list_pretrained()]
    text = run("list")
    assert text.count("(default)") == 1
    assert f"{DEFAULT_BUNDLE} (default)" in text
    assert all(manifest.model_id in text for manifest in pretrained)
    assert [entry["model_id"] for entry in run_json("list")] == [manifest.model_id for manifest in pretrained]


def test_show_prints_the_whole_manifest_with_its_id() -> None:
    default, single = load_model(DEFAULT_BUNDLE), load_bundle("densenet121-aptos-224").manifest
    assert isinstance(default, Ensemble)
    assert run_json("show") == {"model_id": default.model_id, **default.manifest.model_dump(mode="json")}
    assert all(network.name in run("show") for network in default.networks)
    text = run("show", "densenet121-aptos-224")
    assert "recipe.enhancement" in text
    assert single.weights_sha256 in text


def test_unknown_bundle_is_rejected() -> None:
    with pytest.raises(ModelError, match="no model bundle 'nothing'"):
        run("show", "nothing")


def test_show_validates_the_weights(tmp_path: Path) -> None:
    out = tmp_path / "b"
    bundle = make_bundle(random_weights())
    write_bundle(out, bundle.manifest, bundle.weights)
    run("show", str(out))
    with (out / "weights.safetensors").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ModelError, match="SHA-256"):
        run("show", str(out))


def test_import_records_the_recipe_of_the_options(tmp_path: Path, weights_file: Path) -> None:
    out = tmp_path / "mine"
    shown = run_json(
        "import",
        str(weights_file),
        "--out",
        str(out),
        f"--backbone={SMALL}",
        "--size=512",
        "--input-range=-2,1.5",
        "--preprocess=graham",
        "--sigma=10",
        "--explain=1,3",
    )
    assert shown["explained_outputs"] == [1, 3]
    recipe = load_bundle(out).recipe
    assert shown["name"] == "mine"
    assert shown["model_id"] == read_manifest(out).model_id
    assert (recipe.input_size_px, recipe.input_range) == (512, (-2.0, 1.5))
    assert (recipe.crop, recipe.enhancement, recipe.cut_to_circle) == ("lit_box", "graham", True)
    assert recipe.sigma_fraction * 512 == 10


def test_import_without_preprocessing_does_not_crop(tmp_path: Path, weights_file: Path) -> None:
    base = [
        "import",
        str(weights_file),
        f"--backbone={SMALL}",
        "--size=32",
        "--input-range=0,1",
        "--preprocess=none",
        "--out",
    ]
    run(*base, str(tmp_path / "whole"))
    run(*base, str(tmp_path / "cropped"), "--crop=lit_box", "--name=c")
    whole, cropped = load_bundle(tmp_path / "whole").recipe, load_bundle(tmp_path / "cropped").recipe
    assert (whole.crop, whole.enhancement, whole.cut_to_circle) == ("none", "none", False)
    assert (cropped.crop, cropped.enhancement) == ("lit_box", "none")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "the preprocessing of the weights is missing: give --size, --input-range, --preprocess"),
        (["--size=224", "--preprocess=none"], "weights is missing: give --input-range$"),
        (["--size=16", "--input-range=0,1", "--preprocess=none"], "recipe: input_size_px: Input should be greater"),
        (["--size=224", "--input-range=1,0", "--preprocess=none"], r"input_range must increase, got 1\.0 to 0\.0"),
        (["--size=224", "--input-range=0", "--preprocess=none"], r"recipe: input_range\.1: Field required"),
        (["--size=224", "--input-range=a,b", "--preprocess=none"], r"recipe: input_range\.0: Input should be a valid"),
        (["--size=224", "--input-range=0,1", "--preprocess=none", "--sigma=10"], "--sigma 10 needs --preprocess"),
        (["--size=0", "--input-range=0,1", "--preprocess=graham", "--sigma=10"], "recipe: input_size_px: "),
    ],
)
def test_import_with_an_incomplete_recipe_lists_the_options_to_give(
    tmp_path: Path, weights_file: Path, options: list[str], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        run("import", str(weights_file), "--out", str(tmp_path / "b"), *options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["list", "show", "import", "calibrate", "ensemble", "audit"])
def test_help_gives_examples(command: str) -> None:
    text = run(command, "--help")
    assert "Examples:" in text
    assert f"fundus model {command}" in text


def test_no_tensorflow_is_loaded_to_list_show_or_describe_an_engine() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from worker.commands.model import app; "
        "import worker.model.engines.protocol, worker.model.decide_grade, worker.imaging.steps.overlay; "
        "assert CliRunner().invoke(app, ['show']).exit_code == 0; "
        "sys.exit(', '.join({'tensorflow', 'keras', 'h5py'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
