"""Random weights by which activations neither vanish nor overflow through 121 layers."""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.imaging.recipe import Recipe
from worker.model.architecture import weight_shapes
from worker.model.bundle.bundle import Bundle, Manifest

SIDE = 96
SMALL = "mobilenet"
"""A fifth of the layers of DenseNet-121, for tests of what surrounds a network: Keras needs a second for its graph."""


def draw_weight(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """A random weight by its kind; no bias, shift or statistic has the value of a new network."""
    kind = name.rpartition("/")[2]
    if kind == "kernel":
        values = rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
    elif kind in {"gamma", "moving_variance"}:
        values = rng.uniform(0.5, 1.5, shape)
    else:
        values = rng.normal(0, 0.2, shape)
    return values.astype(np.float32)


def random_weights(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return {name: draw_weight(name, shape, rng) for name, shape in weight_shapes().items()}


def random_backbone_weights(
    architecture: str = SMALL, side: int = SIDE, seed: int = 0
) -> dict[str, NDArray[np.float32]]:
    """Random weights of a network that Keras builds; those of a normalisation of the input are as in a new network."""
    return dict(_draw_backbone(architecture, side, seed))


@cache
def _draw_backbone(architecture: str, side: int, seed: int) -> dict[str, NDArray[np.float32]]:
    from worker.model.network.build import build_network, get_weights

    rng = np.random.default_rng(seed)
    return {
        name: array if name.startswith("normalization") else _draw_backbone_weight(name, array.shape, rng)
        for name, array in get_weights(build_network(side, architecture)).items()
    }


def _draw_backbone_weight(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """As `draw_weight`, but a filter of a depthwise convolution has one input channel."""
    if len(shape) == 4 and shape[3] == 1:
        return rng.normal(0, np.sqrt(2 / (shape[0] * shape[1])), shape).astype(np.float32)
    return draw_weight(name, shape, rng)


def make_manifest(*, side: int = SIDE, target_layer: str = "relu", **others: Any) -> Manifest:
    recipe = Recipe(input_size_px=side, input_range=(-1.0, 1.0), crop="none", enhancement="none")
    return Manifest(
        name="random",
        recipe=recipe,
        target_layer=target_layer,
        training_data="none",
        licence="CC0",
        weights_sha256="0" * 64,
        **others,
    )


def make_bundle(
    weights: dict[str, NDArray[np.float32]], *, side: int = SIDE, target_layer: str = "relu", **others: Any
) -> Bundle:
    return Bundle(make_manifest(side=side, target_layer=target_layer, **others), MappingProxyType(weights))


def make_small_bundle(
    changes: Mapping[str, NDArray[np.float32]] | None = None, *, target_layer: str = "last", **others: Any
) -> Bundle:
    """A bundle of the network SMALL with random weights, some of which are replaced."""
    weights = random_backbone_weights() | dict(changes or {})
    return make_bundle(weights, target_layer=target_layer, architecture=SMALL, **others)
