"""Build the network in Keras: a backbone, global average pooling, dropout, and a dense head.

Backbones are those of keras.applications, and EfficientNet-Lite.
"""

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Literal

import keras
import numpy as np
from numpy.typing import NDArray

from worker.core.errors import ModelError, SettingsError
from worker.model.architecture import DENSENET121, HEAD
from worker.model.bundle.bundle import Bundle
from worker.model.efficientnet_lite import VARIANTS
from worker.model.network.backend import BACKENDS
from worker.model.network.efficientnet_lite import build_efficientnet_lite
from worker.model.ordinal import OUTPUTS

FloatPrecision = Literal["float32", "bfloat16"]

DROPOUT_RATE = 0.5
UINT8_RANGE = (0.0, 255.0)
"""Input range of a backbone that includes its own scaling."""
_SCALING = (keras.layers.Rescaling, keras.layers.Normalization)


def load_network(bundle: Bundle, precision: FloatPrecision = "float32") -> keras.Sequential:
    """Return the bundle's network, from float32 (N, S, S, 3) in the recipe's range to outputs (N, 5) in [0, 1].

    precision: as for `build_network`. Raises SettingsError if Keras is set to another backend or channel order,
    ModelError for an architecture that Keras does not have, or for weights of another network.
    """
    architecture = bundle.manifest.architecture
    network = build_network(bundle.recipe.input_size_px, architecture, precision)
    try:
        assign_weights(network, bundle.scaled_weights)
    except ModelError as error:
        raise ModelError(f"architecture {architecture}: {error.detail}") from error
    return network


def build_network(
    input_size_px: int, architecture: str = DENSENET121, precision: FloatPrecision = "float32"
) -> keras.Sequential:
    """Return the network with random weights; nothing is downloaded. Raises as `load_network` does.

    architecture: a key of `list_backbones`. precision: that between layers; variables are float32.
    """
    if (backend := keras.config.backend()) not in BACKENDS:
        raise SettingsError(f"KERAS_BACKEND is {backend!r}, {' or '.join(map(repr, BACKENDS))} is needed")
    if keras.config.image_data_format() != "channels_last":
        raise SettingsError("image_data_format in keras.json is 'channels_first', 'channels_last' is needed")
    with _dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32"):
        return keras.Sequential(
            [
                _build_backbone(architecture, (input_size_px, input_size_px, 3)),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dropout(DROPOUT_RATE),
                keras.layers.Dense(OUTPUTS, activation="sigmoid", name=HEAD),
            ]
        )


def get_backbone(network: keras.Sequential) -> keras.Model:
    """Return the part of the network whose output is the last feature map (N, h, w, C)."""
    return network.layers[0]


def includes_rescaling(network: keras.Sequential) -> bool:
    """Return whether the backbone includes its own scaling, and needs inputs in UINT8_RANGE."""
    return any(isinstance(layer, _SCALING) for layer in get_backbone(network).layers)


def assign_weights(network: keras.Sequential, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Set the network's weights (`conv1_conv/kernel`, ...). Raises ModelError unless all names and shapes match."""
    variables = name_variables(network)
    if unknown := weights.keys() - variables.keys():
        raise ModelError(f"{len(unknown)} weights are not in the network, one is {min(unknown)}")
    if missing := variables.keys() - weights.keys():
        raise ModelError(f"{len(missing)} of {len(variables)} weights are missing, one is {min(missing)}")
    for name, variable in variables.items():
        if tuple(variable.shape) != weights[name].shape:
            raise ModelError(f"{name} has the shape {weights[name].shape}, {tuple(variable.shape)} is needed")
        variable.assign(weights[name])
    for layer in get_backbone(network).layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def get_weights(network: keras.Sequential) -> dict[str, NDArray[np.float32]]:
    """Return the network's weights by name, as for `assign_weights`."""
    return {name: np.asarray(variable, np.float32) for name, variable in name_variables(network).items()}


def name_variables(network: keras.Sequential) -> dict[str, keras.Variable]:
    """Return the variables of the backbone and the head by name, in the order of the layers."""
    layers = name_layers([*get_backbone(network).layers, network.get_layer(HEAD)])
    return {f"{name}/{variable.name}": variable for name, layer in layers.items() for variable in layer.weights}


def name_layers(layers: Sequence[keras.Layer]) -> dict[str, keras.Layer]:
    """Return layers by name. Layers with automatic names are numbered as in the first network of a process."""
    named: dict[str, keras.Layer] = {}
    for layer in layers:
        kind = to_snake_case(layer)
        unnamed = re.fullmatch(rf"{kind}(_\d+)?", layer.name) is not None
        named[make_unique(kind, named) if unnamed else layer.name] = layer
    return named


def to_snake_case(layer: keras.Layer) -> str:
    """Return a layer's class name as Keras writes it in files: `batch_normalization` for BatchNormalization."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__).lower()


def make_unique(name: str, taken: Container[str]) -> str:
    """Return the name, or the first of `name_1`, `name_2`, ... that is not in use."""
    numbered = (f"{name}_{number}" for number in count(1))
    return name if name not in taken else next(one for one in numbered if one not in taken)


def list_backbones() -> dict[str, Callable[[tuple[int, int, int]], keras.Model]]:
    """Return the function that builds each backbone from its input shape (H, W, 3), by name in lower case."""
    offered = {name: getattr(keras.applications, name) for name in dir(keras.applications) if name[0].isupper()}
    backbones = {name.lower(): partial(_build_application, build) for name, build in offered.items() if callable(build)}
    return backbones | {name: partial(build_efficientnet_lite, name) for name in VARIANTS}


@contextmanager
def _dtype_policy(policy: str) -> Iterator[None]:
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)


def _build_application(build: Callable[..., keras.Model], shape: tuple[int, int, int]) -> keras.Model:
    return build(include_top=False, weights=None, input_shape=shape, name=build.__name__.lower())


def _build_backbone(architecture: str, shape: tuple[int, int, int]) -> keras.Model:
    backbones = list_backbones()
    if architecture not in backbones:
        raise ModelError(f"unknown backbone {architecture!r}; known are {', '.join(sorted(backbones))}")
    try:
        return backbones[architecture](shape)
    except ValueError as error:
        raise ModelError(
            f"{architecture} does not support an input of {shape[0]} x {shape[1]} pixels: {error}"
        ) from error
