"""Convert EfficientNet-Lite's weights from PyTorch (package `efficientnet-lite-pytorch`) to the network in Keras."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import ModelError
from worker.model.architecture import BATCH_NORM_WEIGHTS, HEAD
from worker.model.efficientnet_lite import TOP_FILTERS, Block, list_blocks
from worker.model.ordinal import OUTPUTS

PRETRAINING_RANGE = (-127 / 128, 1.0)
"""Inputs of black and white that the published weights were trained with."""
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
_CLASSIFIER = ("_fc.weight", "_fc.bias")
"""The classes of ImageNet, which no eye has."""

Weights = dict[str, NDArray[np.float32]]


def convert_weights(
    tensors: Mapping[str, NDArray[np.generic]], architecture: str, input_range: tuple[float, float], *, source: str
) -> Weights:
    """Return the network's weights by name, for inputs in `input_range`; the head is zero and has to be fitted.

    The change of the input range is folded into the first layer: into its kernel, and into the mean of its batch
    normalisation, so that only the padding at the border differs. Raises ModelError for tensors of another network.
    """
    names = {theirs: ours for ours, theirs in _tensor_names(architecture).items()}
    known = {*names, *_CLASSIFIER}
    if unknown := sorted(name for name in tensors if name not in known and not name.endswith(".num_batches_tracked")):
        raise ModelError(f"{source}: {len(unknown)} tensors are not of {architecture}, the first is {unknown[0]}")
    if missing := [name for name in names if name not in tensors]:
        raise ModelError(f"{source}: {len(missing)} tensors of {architecture} are missing, the first is {missing[0]}")
    weights = {ours: _to_keras(tensors[theirs], ours) for theirs, ours in names.items()}
    weights |= {
        f"{HEAD}/kernel": np.zeros((TOP_FILTERS, OUTPUTS), np.float32),
        f"{HEAD}/bias": np.zeros(OUTPUTS, np.float32),
    }
    return _fold_input_range(weights, input_range)


def _fold_input_range(weights: Weights, input_range: tuple[float, float]) -> Weights:
    (low, high), (new_low, new_high) = PRETRAINING_RANGE, input_range
    factor = (high - low) / (new_high - new_low)
    # An input x of the new range is factor * x + shift in the range of the pretraining.
    shift = low - factor * new_low
    kernel = weights["stem_conv/kernel"]
    return weights | {
        "stem_conv/kernel": np.asarray(kernel * factor, np.float32),
        "stem_bn/moving_mean": np.asarray(
            weights["stem_bn/moving_mean"] - shift * kernel.sum(axis=(0, 1, 2)), np.float32
        ),
    }


def _tensor_names(architecture: str) -> dict[str, str]:
    """Return the name of the tensor of each weight of the backbone."""
    names = _named("stem_", "_conv_stem", "_bn0")
    for number, block in enumerate(list_blocks(architecture)):
        names |= _block_names(block, f"_blocks.{number}.")
    return names | _named("top_", "_conv_head", "_bn1")


def _block_names(block: Block, prefix: str) -> dict[str, str]:
    expand = _named(f"{block.name}expand_", f"{prefix}_expand_conv", f"{prefix}_bn0") if block.expansion != 1 else {}
    depthwise = _named(f"{block.name}dw", f"{prefix}_depthwise_conv", None) | _named(block.name, None, f"{prefix}_bn1")
    return expand | depthwise | _named(f"{block.name}project_", f"{prefix}_project_conv", f"{prefix}_bn2")


def _named(prefix: str, convolution: str | None, normalisation: str | None) -> dict[str, str]:
    names = {} if convolution is None else {f"{prefix}conv/kernel": f"{convolution}.weight"}
    if normalisation is None:
        return names
    pairs = zip(BATCH_NORM_WEIGHTS, _BATCH_NORM, strict=True)
    return names | {f"{prefix}bn/{ours}": f"{normalisation}.{theirs}" for ours, theirs in pairs}


def _to_keras(tensor: NDArray[np.generic], name: str) -> NDArray[np.float32]:
    array = np.asarray(tensor, np.float32)
    if array.ndim != 4:
        return array
    # (output, input, h, w); a depthwise kernel of PyTorch has one input, and that of Keras one output a channel.
    return np.ascontiguousarray(array.transpose(2, 3, 0, 1) if "dwconv" in name else array.transpose(2, 3, 1, 0))
