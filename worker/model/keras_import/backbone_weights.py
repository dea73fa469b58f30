"""Read the weights of any backbone out of a file that Keras 2 or 3 saved, by the layers of the network they are for.

As for DenseNet-121, numbers are read and nothing of the file is built; which layers there are, our own network says.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from worker.core.errors import ModelError
from worker.model.architecture import HEAD
from worker.model.bundle.weights import check_weights
from worker.model.keras_import.hdf5 import list_datasets, open_hdf5, read_floats
from worker.model.keras_import.weights_file import unpack_hdf5
from worker.model.network.build import (
    build_network,
    get_backbone,
    make_unique,
    name_layers,
    name_variables,
    to_snake_case,
)

_BESIDE_THE_NETWORK = ("optimizer", "top_level_model_weights", "_layer_checkpoint_dependencies")
_OLD_NAMES = {"depthwise_kernel": "kernel"}


def read_backbone_weights(
    data: bytes, *, architecture: str, input_size_px: int, source: str
) -> dict[str, NDArray[np.float32]]:
    """The weights by name; integers, such as counters of a normalisation, are those of a fresh network.

    Raises ModelError for content that is damaged or not of this network, naming the layer.
    """
    network = build_network(input_size_px, architecture)
    variables = name_variables(network)
    arrays = {name: np.asarray(variable, np.float32) for name, variable in variables.items()}
    floats = {name for name, variable in variables.items() if keras.backend.is_float_dtype(variable.dtype)}
    with open_hdf5(unpack_hdf5(data, source=source), source=source) as file:
        datasets = list_datasets(file, source=source)
        new = any(path.startswith("layers/") for path in datasets)
        names = (_name_keras3 if new else _name_keras2)(datasets, network, source=source)
        if missing := floats - set(names.values()):
            raise ModelError(f"{source}: {len(missing)} of {len(floats)} weights are missing, one is {min(missing)}")
        for path, name in names.items():
            if name in floats:
                arrays[name] = read_floats(datasets[path], tuple(variables[name].shape), source=f"{source}: {path}")
    return check_weights(arrays, source=source, architecture=architecture)


def _name_keras3(paths: Iterable[str], network: keras.Sequential, *, source: str) -> dict[str, str]:
    """The network's name of each path. Keras 3 numbers the layers of a kind, of a backbone within the model by
    themselves, and with those of the head where the model was built as one."""
    backbone = get_backbone(network)
    nested = dict([*_number(backbone.layers, "layers/functional/layers"), *_number(network.layers[1:], "layers")])
    whole = dict(_number([*backbone.layers, *network.layers[1:]], "layers"))
    wanted = [path for path in paths if path.startswith("layers/") and "/seed_generator/" not in path]
    names = nested if any(path in nested and path not in whole for path in wanted) else whole
    for path in wanted:
        if path not in names:
            raise ModelError(f"{source}: {path} belongs to no layer of this network")
    return {path: names[path] for path in wanted}


def _number(layers: Sequence[keras.Layer], prefix: str) -> Iterator[tuple[str, str]]:
    """Path and name of each weight of some layers."""
    seen: set[str] = set()
    for name, layer in name_layers(layers).items():
        seen.add(kind := make_unique(to_snake_case(layer), seen))
        for place, variable in enumerate(layer.weights):
            yield f"{prefix}/{kind}/vars/{place}", f"{name}/{variable.name}"


def _name_keras2(paths: Iterable[str], network: keras.Sequential, *, source: str) -> dict[str, str]:
    """The network's name of each path, whose last two parts are a layer's and a weight's; the head is whichever other
    layer has weights."""
    known = set(name_variables(network))
    names: dict[str, str] = {}
    heads: set[str] = set()
    for path in paths:
        if path.startswith(_BESIDE_THE_NETWORK):
            continue
        layer, _, weight = path.removesuffix(":0").rpartition("/")
        folder, layer = layer, layer.rpartition("/")[2]
        name = _find(known, layer, weight) or _find(known, re.sub(r"_\d+$", "", layer), weight)
        if name is None:
            heads.add(folder)
            name = f"{HEAD}/{weight}"
        if len(heads) > 1 or name not in known or name in names.values():
            raise ModelError(f"{source}: {path} belongs to no layer of this network")
        names[path] = name
    return names


def _find(known: set[str], layer: str, weight: str) -> str | None:
    candidates = (f"{layer}/{weight}", f"{layer}/{_OLD_NAMES.get(weight, weight)}")
    return next((name for name in candidates if name in known), None)
