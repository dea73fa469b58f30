import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from tests.unit.worker.model.networks import SIDE, make_manifest, random_weights
from worker.core.errors import ModelError
from worker.model.bundle.activation_ranges import activation_range_shapes
from worker.model.bundle.bundle import MANIFEST_FILE
from worker.model.bundle.ensemble import load_golden_inputs, parse_manifest
from worker.model.bundle.golden import GOLDEN_FILE, GoldenInputs, parse_golden_inputs, serialise_golden_inputs
from worker.model.bundle.writer import add_activation_ranges, attach_golden_inputs, write_bundle

GOLDEN = GoldenInputs(
    (np.full((2, SIDE, SIDE, 3), 7, np.uint8),), np.full((2, 5), 0.5, np.float32), np.ones((2, 3, 3), np.float32)
)
ARRAYS = {"pictures_0": GOLDEN.pictures[0], "probabilities": GOLDEN.probabilities, "saliency": GOLDEN.saliency}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "bundle", make_manifest(), random_weights())
    return tmp_path / "bundle"


def test_golden_inputs_are_read_as_written() -> None:
    read = parse_golden_inputs(serialise_golden_inputs(GOLDEN), source="x", input_sizes_px=[SIDE])
    for one, other in ((read.pictures[0], GOLDEN.pictures[0]), (read.saliency, GOLDEN.saliency)):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(read.probabilities, GOLDEN.probabilities)


def test_input_of_several_recipes_has_a_picture_for_each() -> None:
    two = GoldenInputs((GOLDEN.pictures[0], np.zeros((2, 64, 64, 3), np.uint8)), GOLDEN.probabilities, GOLDEN.saliency)
    read = parse_golden_inputs(serialise_golden_inputs(two), source="x", input_sizes_px=[SIDE, 64])
    assert [[picture.shape for picture in one] for one in read.inputs] == [[(SIDE, SIDE, 3), (64, 64, 3)]] * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pictures_1": GOLDEN.pictures[0]}, "has the arrays pictures_0, pictures_1"),
        ({"pictures_0": GOLDEN.pictures[0][:, 1:]}, r"pictures_0 is uint8 \(2, 95, 96, 3\), uint8 \(2, 96, 96, 3\)"),
        ({"pictures_0": GOLDEN.pictures[0].astype(np.float32)}, "pictures_0 is float32"),
        ({"probabilities": GOLDEN.probabilities[:0]}, "has 0 inputs, 1 to 64 are needed"),
        ({"probabilities": GOLDEN.probabilities + 1}, "probabilities has a value outside 0 to 1"),
        ({"saliency": np.full((2, 3, 3), np.nan, np.float32)}, "saliency has a value outside 0 to 1"),
        ({"saliency": np.ones((2, 3), np.float32)}, r"saliency has the shape \(2, 3\)"),
        ({"saliency": np.ones((1, 3, 3), np.float32)}, r"saliency is float32 \(1, 3, 3\)"),
    ],
)
def test_other_content_is_refused(changes: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ModelError, match=f"^x: {message}"):
        parse_golden_inputs(save(ARRAYS | changes), source="x", input_sizes_px=[SIDE])


def test_damaged_file_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^x: "):
        parse_golden_inputs(serialise_golden_inputs(GOLDEN)[:-1], source="x", input_sizes_px=[SIDE])


def test_attached_golden_inputs_change_neither_model_nor_other_fields(bundle: Path) -> None:
    before = json.loads((bundle / MANIFEST_FILE).read_text())
    assert load_golden_inputs(bundle) is None
    model_id = parse_manifest(before).model_id
    manifest = attach_golden_inputs(bundle, GOLDEN)
    assert manifest.model_id == model_id
    assert manifest.model_dump(mode="json") == before | {"golden_sha256": manifest.golden_sha256}
    read = load_golden_inputs(bundle)
    assert read is not None
    np.testing.assert_array_equal(read.probabilities, GOLDEN.probabilities)
    assert (bundle / GOLDEN_FILE).stat().st_mode & 0o777 == 0o644


def test_golden_inputs_are_copied_with_a_bundle_that_keeps_its_answers(bundle: Path, tmp_path: Path) -> None:
    ranges = {layer: np.ones(shape, np.float32) for layer, shape in activation_range_shapes().items()}
    attach_golden_inputs(bundle, GOLDEN)
    add_activation_ranges(bundle, tmp_path / "copy", ranges)
    assert load_golden_inputs(tmp_path / "copy") is not None


def test_changed_file_is_refused(bundle: Path) -> None:
    attach_golden_inputs(bundle, GOLDEN)
    with (bundle / GOLDEN_FILE).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelError, match=r"golden\.safetensors: its SHA-256 is"):
        load_golden_inputs(bundle)
