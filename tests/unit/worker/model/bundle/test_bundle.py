import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.worker.model.networks import make_manifest, random_weights
from worker.core.errors import ModelError, UsageError
from worker.model.bundle.bundle import DEFAULT_BUNDLE, Manifest, find_bundle, list_pretrained, load_bundle
from worker.model.bundle.ensemble import ledger_document, load_model, parse_manifest
from worker.model.bundle.fit_record import LATER_FIT_FIELDS, FitRecord
from worker.model.bundle.weights import serialise_weights
from worker.model.bundle.writer import copy_bundle, write_bundle

Weights = dict[str, NDArray[np.float32]]


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_weights()


@pytest.fixture
def folder(tmp_path: Path, weights: Weights) -> Path:
    write_bundle(tmp_path / "bundle", make_manifest(), weights)
    return tmp_path / "bundle"


def rewrite_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewrite_weights(folder: Path, data: bytes) -> None:
    """Replace the weights, and their SHA-256 in the manifest."""
    (folder / "weights.safetensors").write_bytes(data)
    rewrite_manifest(folder, weights_sha256=hashlib.sha256(data).hexdigest())


def test_written_bundle_is_read_back_the_same(folder: Path, weights: Weights) -> None:
    bundle = load_bundle(folder)
    assert list(bundle.weights) == list(weights)
    assert all(np.array_equal(bundle.weights[name], weights[name]) for name in weights)
    assert bundle.recipe == make_manifest().recipe


def test_float16_kernels_are_read_as_float32_and_vectors_are_unchanged(tmp_path: Path, weights: Weights) -> None:
    write_bundle(tmp_path / "half", make_manifest(), weights, float16_kernels=True)
    read = load_bundle(tmp_path / "half").weights
    for name, array in weights.items():
        assert read[name].dtype == np.float32
        expected = array.astype(np.float16).astype(np.float32) if name.endswith("/kernel") else array
        np.testing.assert_array_equal(read[name], expected)


def test_id_of_a_pretrained_bundle_does_not_change_with_new_optional_fields() -> None:
    # Runs in ledgers refer to it.
    assert load_bundle("densenet121-aptos-224").model_id == "12ff7f06b9a34d01"


def test_weights_of_a_bundle_are_read_only(folder: Path) -> None:
    bundle = load_bundle(folder)
    with pytest.raises(ValueError, match="read-only"):
        bundle.weights["head/bias"][0] = 1
    with pytest.raises(TypeError):
        bundle.weights["head/bias"] = np.zeros(5, np.float32)  # type: ignore[index]


def test_model_id_is_the_sha256_of_the_canonical_content() -> None:
    manifest = make_manifest()
    recipe = (
        '{"crop":"none","cut_to_circle":false,"enhancement":"none","gain":4.0,"input_range":[-1.0,1.0],'
        '"input_size_px":96,"lit_floor":10,"lit_fraction":0.06,"lit_share":0.02,"offset":128.0,"outside":128,'
        '"sigma_fraction":0.03333333333333333}'
    )
    content = (
        f'{{"architecture":"densenet121","licence":"CC0","name":"random","notes":"","recipe":{recipe},'
        f'"schema_version":1,"target_layer":"relu","thresholds":[0.5,0.5,0.5,0.5,0.5],"training_data":"none",'
        f'"weights_sha256":"{"0" * 64}"}}'
    )
    assert manifest.model_id == hashlib.sha256(content.encode()).hexdigest()[:16]


def test_model_id_does_not_depend_on_how_the_file_is_written(folder: Path) -> None:
    before = load_bundle(folder).model_id
    document = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(dict(reversed(document.items()))))
    assert load_bundle(folder).model_id == before
    rewrite_manifest(folder, thresholds=[0.5, 0.5, 0.4, 0.5, 0.5])
    assert load_bundle(folder).model_id != before


def test_temperature_of_1_does_not_change_the_id(folder: Path) -> None:
    before = load_bundle(folder).model_id
    rewrite_manifest(folder, temperature=1.0)
    assert load_bundle(folder).model_id == before
    rewrite_manifest(folder, temperature=1.5)
    assert load_bundle(folder).model_id != before


def test_explaining_all_outputs_does_not_change_the_id(folder: Path) -> None:
    before = load_bundle(folder).model_id
    rewrite_manifest(folder, explained_outputs=[0, 4])
    assert load_bundle(folder).model_id == before
    rewrite_manifest(folder, explained_outputs=[1, 2])
    assert load_bundle(folder).model_id != before
    assert load_bundle(folder).explained_outputs == (1, 2)


def test_scaled_weights_have_the_head_divided_by_the_temperature(folder: Path, weights: Weights) -> None:
    rewrite_manifest(folder, temperature=2)
    scaled = load_bundle(folder).scaled_weights
    np.testing.assert_array_equal(scaled["head/kernel"], weights["head/kernel"] / 2)
    np.testing.assert_array_equal(scaled["head/bias"], weights["head/bias"] / 2)
    np.testing.assert_array_equal(scaled["conv1_conv/kernel"], weights["conv1_conv/kernel"])


def test_missing_files_are_named(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match=r"weights\.safetensors: No such file"):
        load_bundle(folder)
    (folder / "model.json").unlink()
    with pytest.raises(ModelError, match=r"model\.json: No such file"):
        load_bundle(folder)


def test_unknown_name_lists_the_pretrained_bundles() -> None:
    with pytest.raises(ModelError, match=r"no model bundle 'resnet'.*densenet121-aptos-224"):
        load_bundle("resnet")


def test_default_bundle_is_pretrained() -> None:
    assert DEFAULT_BUNDLE in list_pretrained()
    assert load_model(DEFAULT_BUNDLE).name == DEFAULT_BUNDLE


def test_name_refers_to_the_pretrained_bundle_and_path_to_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    folder.rename(folder.parent / DEFAULT_BUNDLE)
    assert find_bundle(DEFAULT_BUNDLE).is_absolute()
    assert load_bundle(f"./{DEFAULT_BUNDLE}").name == "random"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"architecture": "../resnet50"}, "architecture: String should match pattern"),
        ({"schema_version": 2}, "schema_version: Input should be 1"),
        ({"target_layer": "conv6"}, "target_layer 'conv6' is not a feature map"),
        ({"thresholds": [0.5] * 4}, "thresholds"),
        ({"thresholds": [0.5, 0.5, 0.5, 0.5, 1.0]}, r"thresholds\.4: Input should be less than 1"),
        ({"name": "../etc"}, "name: String should match"),
        ({"weights_sha256": "abc"}, "weights_sha256: String should match"),
        ({"code": "import os"}, "code: Extra inputs are not permitted"),
        ({"recipe": {}}, r"recipe\.input_size_px: Field required"),
    ],
)
def test_wrong_field_is_named(folder: Path, changes: dict[str, Any], sentence: str) -> None:
    rewrite_manifest(folder, **changes)
    with pytest.raises(ModelError, match=sentence):
        load_bundle(folder)


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_recipe_rejects_a_number_that_is_not_finite(folder: Path, number: str) -> None:
    path = folder / "model.json"
    path.write_text(path.read_text().replace('"gain": 4.0', f'"gain": {number}'))
    with pytest.raises(ModelError, match=r"recipe\.gain: Input should be"):
        load_bundle(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b"[" * 5000])
def test_manifest_that_is_not_a_json_object_is_rejected(folder: Path, content: bytes) -> None:
    (folder / "model.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.json: content: "):
        load_bundle(folder)


def test_manifest_above_the_size_limit_is_not_parsed(folder: Path) -> None:
    (folder / "model.json").write_bytes(b" " * 65_537)
    with pytest.raises(ModelError, match="more than 65536 bytes"):
        load_bundle(folder)


def test_changed_weights_do_not_match_their_checksum(folder: Path) -> None:
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"its SHA-256 is [0-9a-f]{64}, but model\.json has [0-9a-f]{64}"):
        load_bundle(folder)


def test_truncated_weights_with_a_matching_checksum_are_rejected(folder: Path) -> None:
    rewrite_weights(folder, (folder / "weights.safetensors").read_bytes()[:-4])
    with pytest.raises(ModelError, match=r"weights\.safetensors: Error while deserializing: incomplete"):
        load_bundle(folder)


def with_nan(weights: Weights) -> None:
    weights["conv3_block1_1_conv/kernel"] = np.full_like(weights["conv3_block1_1_conv/kernel"], np.nan)


def with_negative_variance(weights: Weights) -> None:
    weights["bn/moving_variance"] = weights["bn/moving_variance"] - 2


def without_a_kernel(weights: Weights) -> None:
    del weights["pool3_conv/kernel"]


def with_a_stranger(weights: Weights) -> None:
    weights["conv6/kernel"] = np.zeros(1, np.float32)


def with_a_wide_head(weights: Weights) -> None:
    weights["head/bias"] = np.zeros(6, np.float32)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (with_nan, "conv3_block1_1_conv/kernel has a value that is not finite"),
        (with_negative_variance, "bn/moving_variance has a negative variance, -1.49"),
        (without_a_kernel, "1 of 606 weights are missing, the first is pool3_conv/kernel"),
        (with_a_stranger, "1 weights are not in the network, the first is conv6/kernel"),
        (with_a_wide_head, r"head/bias has the shape \(6,\), \(5,\) is needed"),
    ],
)
def test_weights_of_another_network_are_rejected(
    folder: Path, weights: Weights, change: Callable[[Weights], None], sentence: str
) -> None:
    changed = dict(weights)
    change(changed)
    rewrite_weights(folder, serialise_weights(changed, float16_kernels=False))
    with pytest.raises(ModelError, match=sentence):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("dtype", "shape", "sentence"), [("BF16", [10], "has the type BF16"), ("I32", [5], "head/bias is int32")]
)
def test_weights_of_another_type_are_rejected(folder: Path, dtype: str, shape: list[int], sentence: str) -> None:
    data = (folder / "weights.safetensors").read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header["head/bias"] |= {"dtype": dtype, "shape": shape}
    text = json.dumps(header).encode()
    rewrite_weights(folder, struct.pack("<Q", len(text)) + text + data[8 + length :])
    with pytest.raises(ModelError, match=sentence):
        load_bundle(folder)


def test_existing_bundle_is_never_overwritten(folder: Path, weights: Weights) -> None:
    before = (folder / "model.json").read_bytes()
    with pytest.raises(UsageError, match="bundle exists; name a new folder"):
        write_bundle(folder, make_manifest(), weights)
    assert (folder / "model.json").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["bundle"]


def test_value_above_the_range_of_float16_is_rejected(tmp_path: Path, weights: Weights) -> None:
    changed = weights | {"head/kernel": np.full((1024, 5), 70_000, np.float32)}
    with pytest.raises(ModelError, match="head/kernel has a value that is not finite"):
        write_bundle(tmp_path / "half", make_manifest(), changed, float16_kernels=True)
    assert list(tmp_path.iterdir()) == []


def test_manifest_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_manifest().name = "other"  # type: ignore[misc]
    assert isinstance(make_manifest(), Manifest)


def make_record(**changes: Any) -> FitRecord:
    record = FitRecord(
        manifest_sha256="0" * 64, split_sha256="0" * 64, training=(1, 0, 0, 0, 0), validation=(1, 0, 0, 0, 0),
        left_out=0, initial_model_id=None, ancestry="known", validation_seen="no", seed=0, epochs=1, best_epoch=1,
        batch_size=1, learning_rate=0.1, weight_decay=0, averaging=0, balance=0, precision="float32", versions={},
        figures={},
    )  # fmt: skip
    return record.model_copy(update=changes)


def test_copied_bundle_keeps_split_and_fit_record(tmp_path: Path, weights: Weights) -> None:
    split = b"pixels,part\n"
    record = make_record(split_sha256=hashlib.sha256(split).hexdigest())
    draft = make_manifest().model_copy(update={"fit": record})
    manifest = write_bundle(tmp_path / "fitted", draft, weights, extra_files={"split.csv": split})
    copy_bundle(tmp_path / "fitted", tmp_path / "new", manifest.model_copy(update={"temperature": 2.0}))
    assert (tmp_path / "new" / "split.csv").read_bytes() == split
    assert load_bundle(tmp_path / "new").manifest.fit == record


def test_ledger_has_no_field_of_a_fit_that_earlier_versions_refuse(tmp_path: Path, weights: Weights) -> None:
    draft = make_manifest().model_copy(update={"fit": make_record(trained_from="block3b", amplitude_mixing=0.5)})
    stored = ledger_document(write_bundle(tmp_path / "fitted", draft, weights))
    assert not set(LATER_FIT_FIELDS) & set(stored["fit"])
    assert parse_manifest(stored).model_id == load_bundle(tmp_path / "fitted").model_id


def test_new_weights_have_no_files_of_the_old_ones(tmp_path: Path) -> None:
    shipped = load_bundle("densenet121-aptos-224")
    assert shipped.manifest.ranges_sha256 is not None
    assert shipped.manifest.golden_sha256 is not None
    write_bundle(tmp_path / "changed", shipped.manifest, {**shipped.weights, "head/bias": np.zeros(5, np.float32)})
    changed = load_bundle(tmp_path / "changed").manifest
    assert (changed.ranges_sha256, changed.golden_sha256, changed.familiarity_sha256) == (None, None, None)
