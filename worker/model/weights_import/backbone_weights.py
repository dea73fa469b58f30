"""Read the weights of any backbone from a Keras file, by the layers of the network that Keras builds.

As for DenseNet-121, only numbers are read, and nothing of the file is built.
"""

import keras
import numpy as np
from numpy.typing import NDArray

from worker.model.architecture import HEAD
from worker.model.bundle.weights import check_weights
from worker.model.network.build import build_network, get_backbone, get_weights, name_layers, to_snake_case
from worker.model.weights_import.layer_names import Layer
from worker.model.weights_import.weights_file import read_layers


def read_backbone_weights(
    data: bytes, *, architecture: str, input_size_px: int, source: str
) -> dict[str, NDArray[np.float32]]:
    """Return the weights by name; integers, such as the counters of a normalisation, are those of a new network.

    Raises ModelError for content that is damaged or of another network, naming the layer.
    """
    network = build_network(input_size_px, architecture)
    named = name_layers([*get_backbone(network).layers, network.get_layer(HEAD)])
    layers = [
        Layer(name, to_snake_case(layer), {variable.name: tuple(variable.shape) for variable in layer.weights})
        for name, layer in named.items()
    ]
    integers = {
        f"{name}/{variable.name}"
        for name, layer in named.items()
        for variable in layer.weights
        if not keras.backend.is_float_dtype(variable.dtype)
    }
    arrays = get_weights(network) | read_layers(data, layers, source=source, skipped=integers)
    return check_weights(arrays, source=source, architecture=architecture)
