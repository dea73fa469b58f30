"""Map the dataset paths of a Keras file to the network's weights, by each version's naming of layers."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from worker.core.errors import ModelError
from worker.model.architecture import HEAD, weight_shapes

_SKIPPED = ("optimizer", "top_level_model_weights", "_layer_checkpoint_dependencies")
"""Groups of a file that hold no weights of the network."""
_RENAMED_WEIGHTS = {"depthwise_kernel": "kernel"}
"""Keras 2 name and Keras 3 name."""
_KERAS3_PATH = re.compile(r"((?:.+/)?)layers/([a-z0-9_]+?)(?:_(\d+))?/vars/(\d+)")


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of the network: its name, its class in snake case, and the shapes of its weights by name, in order."""

    name: str
    kind: str
    shapes: Mapping[str, tuple[int, ...]]


@cache
def densenet_layers() -> tuple[Layer, ...]:
    """Return the layers of DenseNet-121 that have weights, and the head, in order."""
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in weight_shapes().items():
        layer, _, weight = name.rpartition("/")
        shapes.setdefault(layer, {})[weight] = shape
    return tuple(Layer(name, _kind_of(name, weights), weights) for name, weights in shapes.items())


def match_keras2(paths: Iterable[str], layers: Sequence[Layer], *, source: str) -> dict[str, str]:
    """Return the path of each weight by the network's name, from a Keras 2 `.h5` file of weights or a whole model.

    Such a file names layers as the network does, with these exceptions: a layer's name may be split into two groups
    (`conv1/conv`), a number may be appended (`bn_1`), and the head has any name. Raises ModelError for other layers and
    for two paths of one weight.
    """
    paths = list(paths)
    prefix = "model_weights/" if any(path.startswith("model_weights/") for path in paths) else ""
    names = {layer.name for layer in layers}
    weights = _weight_names(layers)
    matched: dict[str, str] = {}
    heads: dict[str, list[tuple[str, str]]] = {}
    for path in paths:
        if not path.startswith(prefix) or path.removeprefix(prefix).startswith(_SKIPPED):
            continue
        group, _, weight = path.removesuffix(":0").rpartition("/")
        layer = _find_keras2_layer(group, names)
        if layer is None:
            heads.setdefault(group, []).append((path, weight))
        else:
            _add(matched, path, f"{layer}/{weight}", weights, source=source)
    if len(heads) > 1:
        raise ModelError(f"{source}: has layers that are not in this network: {', '.join(sorted(heads)[:3])}")
    for path, weight in next(iter(heads.values()), []):
        _add(matched, path, f"{HEAD}/{weight}", weights, source=source)
    return matched


def match_keras3(paths: Iterable[str], layers: Sequence[Layer], *, source: str) -> dict[str, str]:
    """Return the path of each weight by the network's name, from a Keras 3 weights file.

    Such a file numbers the layers of each class in their order: those of a nested model separately, so that the
    backbone and the head may be numbered apart or together. Raises ModelError for a layer that is not in the network.
    """
    models: dict[str, dict[str, re.Match[str]]] = {}
    for path in paths:
        if not path.startswith("layers/") or "/seed_generator/" in path:
            continue
        match = _KERAS3_PATH.fullmatch(path)
        if match is None:
            raise _unknown_path(path, source=source)
        models.setdefault(match[1], {})[path] = match
    backbone = max(models, key=lambda prefix: len(models[prefix]), default="")
    matched: dict[str, str] = {}
    for prefix, matches in models.items():
        inside = layers if len(models) == 1 else [one for one in layers if (one.name == HEAD) != (prefix == backbone)]
        for path, match in matches.items():
            candidates = [layer for layer in inside if layer.kind == match[2]]
            number, place = int(match[3] or 0), int(match[4])
            if number >= len(candidates) or place >= len(candidates[number].shapes):
                raise _unknown_path(path, source=source)
            name = f"{candidates[number].name}/{list(candidates[number].shapes)[place]}"
            _add(matched, path, name, {name}, source=source)
    return matched


def _kind_of(name: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    if name == HEAD:
        return "dense"
    return "batch_normalization" if "gamma" in shapes else "conv2d"


def _weight_names(layers: Sequence[Layer]) -> set[str]:
    return {f"{layer.name}/{weight}" for layer in layers for weight in layer.shapes}


def _find_keras2_layer(group: str, names: set[str]) -> str | None:
    """Return the network's layer that a group of a Keras 2 file stands for."""
    return next((name for name in _keras2_candidates(group) if name in names), None)


def _keras2_candidates(group: str) -> Iterator[str]:
    outer, layer = ["", *group.split("/")][-2:]
    plain = re.sub(r"_\d+$", "", layer)
    # Before the last part alone: `conv1/bn` is not the layer `bn`.
    yield re.sub(r"_\d+$", "", outer) + "_" + plain
    yield layer
    yield plain


def _add(matched: dict[str, str], path: str, name: str, weights: set[str], *, source: str) -> None:
    if name not in weights:
        layer, _, weight = name.rpartition("/")
        name = f"{layer}/{_RENAMED_WEIGHTS.get(weight, weight)}"
    if name not in weights:
        raise ModelError(f"{source}: {path}: the network has no weight {name}")
    if name in matched:
        raise ModelError(f"{source}: {matched[name]} and {path} are both {name}")
    matched[name] = path


def _unknown_path(path: str, *, source: str) -> ModelError:
    return ModelError(f"{source}: {path} belongs to no layer of this network")
