"""EfficientNet-Lite's weights of PyTorch become those of the Keras network, for the recipe's input range."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.worker.model.networks import make_bundle, random_weights
from worker.core.errors import ModelError
from worker.model.bundle.bundle import load_bundle
from worker.model.bundle.writer import write_bundle
from worker.model.efficientnet_lite import list_blocks
from worker.model.network.build import assign_weights, build_network, get_weights
from worker.model.weights_import.efficientnet_lite_torch import PRETRAINING_RANGE, convert_weights
from worker.training.lineage import trace_lineage

ARCHITECTURE = "efficientnetlite0"


def torch_weights() -> dict[str, NDArray[np.generic]]:
    """Tensors with the names and shapes of `efficientnet-lite-pytorch`."""
    rng = np.random.default_rng(0)
    tensors: dict[str, NDArray[np.generic]] = {}

    def convolution(name: str, outputs: int, inputs: int, kernel: int) -> None:
        tensors[f"{name}.weight"] = rng.normal(size=(outputs, inputs, kernel, kernel)).astype(np.float32)

    def normalisation(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{name}.{part}"] = rng.uniform(0.5, 1.5, channels).astype(np.float32)
        tensors[f"{name}.num_batches_tracked"] = np.array(7)

    convolution("_conv_stem", 32, 3, 3)
    normalisation("_bn0", 32)
    for number, block in enumerate(list_blocks(ARCHITECTURE)):
        prefix, wide = f"_blocks.{number}.", block.channels * block.expansion
        if block.expansion != 1:
            convolution(f"{prefix}_expand_conv", wide, block.channels, 1)
            normalisation(f"{prefix}_bn0", wide)
        convolution(f"{prefix}_depthwise_conv", wide, 1, block.kernel)
        normalisation(f"{prefix}_bn1", wide)
        convolution(f"{prefix}_project_conv", block.filters, wide, 1)
        normalisation(f"{prefix}_bn2", block.filters)
    convolution("_conv_head", 1280, 320, 1)
    normalisation("_bn1", 1280)
    return tensors | {"_fc.weight": np.zeros((1000, 1280), np.float32), "_fc.bias": np.zeros(1000, np.float32)}


def test_every_weight_of_the_network_is_converted() -> None:
    tensors = torch_weights()
    weights = convert_weights(tensors, ARCHITECTURE, PRETRAINING_RANGE, source="f")
    network = build_network(64, ARCHITECTURE)
    assign_weights(network, weights)
    assert get_weights(network).keys() == weights.keys()
    # Element by element: a kernel of PyTorch is (output, input, h, w).
    assert weights["top_conv/kernel"][0, 0, 5, 9] == tensors["_conv_head.weight"][9, 5, 0, 0]
    assert weights["block3a_dwconv/kernel"][1, 4, 8, 0] == tensors["_blocks.3._depthwise_conv.weight"][8, 0, 1, 4]
    assert weights["block3a_bn/beta"].tolist() == tensors["_blocks.3._bn1.bias"].tolist()
    assert not weights["head/kernel"].any()


def test_imported_weights_have_seen_no_grades(tmp_path: Path) -> None:
    bundle = make_bundle(random_weights())
    weights = dict(bundle.weights)
    write_bundle(tmp_path / "fitted", bundle.manifest, weights)
    write_bundle(tmp_path / "new", bundle.manifest, weights | {"head/kernel": np.zeros((1024, 5), np.float32)})
    fitted, new = (trace_lineage(str(path), load_bundle(path)) for path in (tmp_path / "fitted", tmp_path / "new"))
    assert fitted.has_seen({"0" * 16}) == "unknown"
    assert new.has_seen({"0" * 16}) == "no"


def test_another_input_range_gives_the_same_stem() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (3, 3, 3)).astype(np.float64)
    outputs = []
    for low, high in (PRETRAINING_RANGE, (-2.0, 1.984375), (0.0, 255.0)):
        weights = convert_weights(torch_weights(), ARCHITECTURE, (low, high), source="f")
        window = picture / 255 * (high - low) + low
        outputs.append(np.einsum("hwc,hwco->o", window, weights["stem_conv/kernel"]) - weights["stem_bn/moving_mean"])
    assert outputs[1] == pytest.approx(outputs[0], abs=1e-4)
    assert outputs[2] == pytest.approx(outputs[0], abs=1e-4)


def test_tensors_of_another_network_are_rejected() -> None:
    tensors = torch_weights()
    with pytest.raises(ModelError, match=r"f: 1 tensors are not of efficientnetlite0, the first is layer1\.weight"):
        convert_weights(tensors | {"layer1.weight": np.zeros(1)}, ARCHITECTURE, (0, 1), source="f")
    del tensors["_bn1.bias"]
    with pytest.raises(ModelError, match=r"f: 1 tensors of efficientnetlite0 are missing, the first is _bn1\.bias"):
        convert_weights(tensors, ARCHITECTURE, (0, 1), source="f")
