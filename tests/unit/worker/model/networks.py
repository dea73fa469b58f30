"""Random weights by which activations neither vanish nor overflow through 121 layers."""

from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.imaging.recipe import Recipe
from worker.model.architecture import weight_shapes
from worker.model.bundle.bundle import Bundle, Manifest

SIDE = 96


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
