"""Check the model description that Keras saves with weights, and reject models other than this network.

The description is read as plain JSON. Nothing is built from it: a Lambda layer or a custom object is rejected by its
class name, and never created.
"""

import json
from collections.abc import Iterator
from typing import Any

from worker.core.errors import ModelError
from worker.model.architecture import BATCH_NORM_EPSILON

_MAX_CONFIG_BYTES = 8 * 1024 * 1024
_MAX_DEPTH = 4
_MODELS = frozenset({"Sequential", "Functional", "Model"})
_LAYERS: dict[str, dict[str, object]] = {
    "Activation": {"activation": "relu"},
    "AveragePooling2D": {},
    "BatchNormalization": {"epsilon": BATCH_NORM_EPSILON},
    "Concatenate": {},
    "Conv2D": {"activation": "linear"},
    "Dense": {"activation": "sigmoid"},
    "Dropout": {},
    "GlobalAveragePooling2D": {},
    "InputLayer": {},
    "MaxPooling2D": {},
    "ZeroPadding2D": {},
}
"""The network's layer classes, and the settings that they must have and that the shapes of weights do not show."""


def check_config(config: bytes, *, source: str) -> None:
    """Raise ModelError unless the layers have the classes and settings of this network's layers."""
    if len(config) > _MAX_CONFIG_BYTES:
        raise ModelError(f"{source}: its description has {len(config)} bytes, {_MAX_CONFIG_BYTES} are allowed")
    try:
        model = json.loads(config)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{source}: its description is not JSON: {error}") from error
    for kind, settings in _layers_of(model, source=source, depth=0):
        if kind not in _LAYERS:
            raise ModelError(f"{source}: has a layer of the class {kind!r}, which is not in this network")
        for key, needed in _LAYERS[kind].items():
            if settings.get(key) != needed:
                name = settings.get("name")
                raise ModelError(f"{source}: layer {name!r} has the {key} {settings.get(key)!r}, not {needed!r}")


def _layers_of(model: Any, *, source: str, depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the class and the settings of each layer, including those of nested models."""
    kind, settings = _kind_and_settings(model, source=source)
    # Before Keras 2.3, the settings of a Sequential are the list of layers.
    layers = settings if isinstance(settings, list) else settings.get("layers")
    if kind not in _MODELS or not isinstance(layers, list) or depth >= _MAX_DEPTH:
        raise ModelError(f"{source}: its description is not that of a Keras model, at the class {kind!r}")
    for layer in layers:
        kind, settings = _kind_and_settings(layer, source=source)
        if kind in _MODELS:
            yield from _layers_of(layer, source=source, depth=depth + 1)
        else:
            yield kind, settings if isinstance(settings, dict) else {}


def _kind_and_settings(item: Any, *, source: str) -> tuple[str, dict[str, Any] | list[Any]]:
    kind = item.get("class_name") if isinstance(item, dict) else None
    settings = item.get("config") if isinstance(item, dict) else None
    if not isinstance(kind, str) or not isinstance(settings, dict | list):
        raise ModelError(f"{source}: its description has a layer without class_name and config")
    return kind, settings
