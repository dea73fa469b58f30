import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from tests.unit.worker.model.networks import make_manifest, random_weights
from worker.core.errors import ModelError
from worker.model.bundle.bundle import Manifest, load_bundle
from worker.model.bundle.ensemble import Ensemble, EnsembleManifest, Member, View, load_model, parse_manifest
from worker.model.bundle.writer import copy_bundle, write_bundle, write_ensemble


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble of two members with different input sizes."""
    base = tmp_path_factory.mktemp("bundles")
    small = write_bundle(base / "a", make_manifest(side=64), random_weights(0))
    large = write_bundle(base / "b", make_manifest(side=96), random_weights(1), float16_kernels=True)
    manifest = EnsembleManifest(name="both", members=(Member(manifest=small), Member(manifest=large, weight=2.0)))
    parts = [(base / name / "weights.safetensors", base / name / "split.csv") for name in ("a", "b")]
    write_ensemble(base / "both", manifest, parts)
    return base / "both"


def other(**recipe: object) -> Manifest:
    manifest = make_manifest()
    return manifest.model_copy(update={"recipe": manifest.recipe.model_copy(update=recipe)})


def test_written_ensemble_is_read_back_with_its_networks(folder: Path) -> None:
    read = load_model(folder)
    assert isinstance(read, Ensemble)
    assert [network.recipe.input_size_px for network in read.networks] == [64, 96]
    assert (read.recipe.input_size_px, [recipe.input_size_px for recipe in read.extra_recipes]) == (64, [96])
    np.testing.assert_array_equal(read.networks[0].weights["head/kernel"], random_weights(0)["head/kernel"])
    assert parse_manifest(read.manifest.model_dump(mode="json")) == read.manifest
    # A folder with a single network is still read.
    assert load_model(folder.parent / "a").model_id == load_bundle(folder.parent / "a").model_id


def test_every_field_changes_the_id(folder: Path) -> None:
    manifest = load_model(folder).manifest
    assert isinstance(manifest, EnsembleManifest)
    first, second = manifest.members
    changed = [
        {"members": (second, first)},
        {"members": (first, second.model_copy(update={"weight": 1.0}))},
        {"members": (first, second.model_copy(update={"views": (View.MIRRORED,)}))},
        {"temperature": 1.1},
        {"thresholds": (0.5, 0.5, 0.4, 0.5, 0.5)},
    ]
    changed.append({"explained_outputs": (1, 2)})
    ids = [manifest.model_copy(update=change).model_id for change in changed]
    assert len({manifest.model_id, *ids}) == 7


def test_ensemble_is_copied_with_its_weights(folder: Path, tmp_path: Path) -> None:
    manifest = load_model(folder).manifest.model_copy(update={"temperature": 2.0})
    copy_bundle(folder, tmp_path / "cool", manifest)
    assert load_model(tmp_path / "cool").manifest.temperature == 2.0
    for name in ("weights-0.safetensors", "weights-1.safetensors"):
        assert (tmp_path / "cool" / name).read_bytes() == (folder / name).read_bytes()


def test_weights_of_another_member_are_rejected(folder: Path, tmp_path: Path) -> None:
    manifest = load_model(folder).manifest
    copy_bundle(folder, tmp_path / "mixed", manifest)
    (tmp_path / "mixed" / "weights-1.safetensors").write_bytes((folder / "weights-0.safetensors").read_bytes())
    with pytest.raises(ModelError, match=r"weights-1\.safetensors: its SHA-256 is"):
        load_model(tmp_path / "mixed")
    with pytest.raises(ModelError, match=r"but model\.json has"):
        copy_bundle(tmp_path / "mixed", tmp_path / "again", manifest)
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ([Member(manifest=other())], "one network with one view is not an ensemble"),
        (
            [Member(manifest=other()), Member(manifest=other(crop="lit_box"))],
            "random has the crop none, random lit_box",
        ),
        ([Member(manifest=other()), Member(manifest=other(lit_share=0.1))], "has the lit_share 0.02, random 0.1"),
        ([Member(manifest=other())] * 9, "at most 8 items"),
    ],
)
def test_incompatible_members_are_rejected(members: list[Member], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        EnsembleManifest(name="joined", members=tuple(members))


def test_member_must_be_explained_at_its_last_feature_map() -> None:
    with pytest.raises(ValidationError, match="random is explained at 'conv4_block24_concat'"):
        Member(manifest=make_manifest(target_layer="conv4_block24_concat"))
    with pytest.raises(ValidationError, match="a view of random is listed twice"):
        Member(manifest=make_manifest(), views=(View.AS_IS, View.AS_IS))


def test_damaged_manifest_names_the_field(folder: Path, tmp_path: Path) -> None:
    copy_bundle(folder, tmp_path / "odd", load_model(folder).manifest)
    file = tmp_path / "odd" / "model.json"
    document = json.loads(file.read_text())
    document["members"][1]["weight"] = -1
    file.write_text(json.dumps(document))
    with pytest.raises(ModelError, match=r"model\.json: members\.1\.weight: Input should be greater than 0"):
        load_model(tmp_path / "odd")
    file.write_text("{")
    with pytest.raises(ModelError, match=r"model\.json: content: Invalid JSON"):
        load_model(tmp_path / "odd")
