"""Build the network: DenseNet-121, global average pooling, dropout, a dense head of five sigmoids."""

from collections.abc import Mapping

import keras
import numpy as np
from numpy.typing import NDArray

from worker.contract.errors import SettingsError
from worker.model.bundle import Bundle
from worker.model.layout import ARCHITECTURE, HEAD, OUTPUTS

DROPOUT_RATE = 0.5


def load_network(bundle: Bundle) -> keras.Sequential:
    """The bundle's network with its weights. Input float32 (N, S, S, 3) in the recipe's range; output (N, 5) in [0, 1].

    Raises SettingsError where Keras is set to another backend or channel order.
    """
    network = build_network(bundle.recipe.input_size_px)
    assign_weights(network, bundle.scaled_weights)
    return network


def build_network(input_size_px: int) -> keras.Sequential:
    """The network with random weights; nothing is downloaded. Raises SettingsError as `load_network` does."""
    if keras.config.backend() != "tensorflow":
        raise SettingsError(f"KERAS_BACKEND is {keras.config.backend()!r}, 'tensorflow' is needed")
    if keras.config.image_data_format() != "channels_last":
        raise SettingsError("image_data_format in keras.json is 'channels_first', 'channels_last' is needed")
    shape = (input_size_px, input_size_px, 3)
    return keras.Sequential(
        [
            keras.applications.DenseNet121(include_top=False, weights=None, input_shape=shape, name=ARCHITECTURE),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dropout(DROPOUT_RATE),
            keras.layers.Dense(OUTPUTS, activation="sigmoid", name=HEAD),
        ]
    )


def assign_weights(network: keras.Sequential, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Put checked weights (`conv1_conv/kernel`, ..., `head/bias`) into the network."""
    for layer in [*network.get_layer(ARCHITECTURE).layers, network.get_layer(HEAD)]:
        for variable in layer.weights:
            variable.assign(weights[f"{layer.name}/{variable.name}"])


def read_weights(network: keras.Sequential) -> dict[str, NDArray[np.float32]]:
    """The network's weights by name, as `assign_weights` takes them."""
    return {
        f"{layer.name}/{variable.name}": np.asarray(variable, np.float32)
        for layer in [*network.get_layer(ARCHITECTURE).layers, network.get_layer(HEAD)]
        for variable in layer.weights
    }
