"""Activation ranges are validated before use, and are not part of the model's id."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save

from tests.unit.worker.model.networks import make_manifest, random_weights
from worker.core.errors import ModelError
from worker.model.bundle.activation_ranges import (
    activation_range_shapes,
    parse_activation_ranges,
    serialise_activation_ranges,
)
from worker.model.bundle.bundle import load_bundle, read_manifest
from worker.model.bundle.writer import add_activation_ranges, copy_bundle, write_bundle

Arrays = dict[str, NDArray[np.float32]]
LAYER = "conv4_block7_2_conv"


def ranges() -> Arrays:
    random = np.random.default_rng(0)
    return {layer: random.uniform(0, 9, shape).astype(np.float32) for layer, shape in activation_range_shapes().items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "plain", make_manifest(), random_weights())
    add_activation_ranges(tmp_path / "plain", tmp_path / "quick", ranges())
    return tmp_path / "quick"


def test_first_layers_and_head_have_no_ranges() -> None:
    assert len(activation_range_shapes()) == 106
    assert next(iter(activation_range_shapes().items())) == ("conv3_block1_1_conv", (128,))


def test_ranges_are_read_back_unchanged_and_keep_the_id(folder: Path) -> None:
    plain, quick = load_bundle(folder.parent / "plain"), load_bundle(folder)
    assert (plain.activation_ranges, plain.model_id) == (None, quick.model_id)
    assert quick.activation_ranges is not None
    assert list(quick.activation_ranges) == list(activation_range_shapes())
    for layer, array in ranges().items():
        np.testing.assert_array_equal(quick.activation_ranges[layer], array)
        assert not quick.activation_ranges[layer].flags.writeable


def test_copied_bundle_keeps_its_ranges(folder: Path) -> None:
    moved = read_manifest(folder).model_copy(update={"temperature": 2.0})
    copy_bundle(folder, folder.parent / "moved", moved)
    assert load_bundle(folder.parent / "moved").activation_ranges is not None


def test_changed_or_missing_file_is_rejected(folder: Path) -> None:
    path = folder / "ranges.safetensors"
    path.write_bytes(serialise_activation_ranges(ranges() | {LAYER: ranges()[LAYER] * 2}))
    with pytest.raises(ModelError, match=r"ranges.safetensors: its SHA-256 is [0-9a-f]{64}, but model.json has"):
        load_bundle(folder)
    path.unlink()
    with pytest.raises(ModelError, match=r"ranges.safetensors: No such file"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda arrays: {layer: arrays[layer] for layer in arrays if layer != LAYER}, f"1 layers .* {LAYER}"),
        (lambda arrays: {**arrays, "conv9": arrays[LAYER]}, "1 layers are missing or unknown, the first is conv9"),
        (lambda arrays: {**arrays, LAYER: arrays[LAYER][:7]}, rf"{LAYER} is float32 \(7,\), float32 \(128,\)"),
        (lambda arrays: {**arrays, LAYER: arrays[LAYER].astype(np.float64)}, f"{LAYER} is float64"),
        (lambda arrays: {**arrays, LAYER: -arrays[LAYER]}, f"{LAYER} has a range that is negative or not finite"),
        (lambda arrays: {**arrays, LAYER: arrays[LAYER] * np.inf}, f"{LAYER} has a range that is negative or not"),
    ],
)
def test_invalid_ranges_are_rejected_by_file_and_layer(
    folder: Path, harm: Callable[[Arrays], Arrays], sentence: str
) -> None:
    data = save(harm(ranges()))
    (folder / "ranges.safetensors").write_bytes(data)
    manifest = json.loads((folder / "model.json").read_text())
    manifest["ranges_sha256"] = hashlib.sha256(data).hexdigest()
    (folder / "model.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=f"ranges.safetensors: {sentence}"):
        load_bundle(folder)


def test_damaged_file_is_named() -> None:
    with pytest.raises(ModelError, match=r"there\.safetensors: "):
        parse_activation_ranges(b"no such thing", source="there.safetensors")
