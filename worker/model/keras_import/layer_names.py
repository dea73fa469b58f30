"""Find the network's weights among the datasets of a Keras file, by the names each version of Keras gives them."""

import re
from collections.abc import Iterable

from worker.core.errors import ModelError
from worker.model.architecture import HEAD, weight_shapes

_CONVOLUTIONS = [name.removesuffix("/kernel") for name, shape in weight_shapes().items() if len(shape) == 4]
_NORMALISATIONS = [name.removesuffix("/gamma") for name in weight_shapes() if name.endswith("/gamma")]
_LAYERS = frozenset(name.rpartition("/")[0] for name in weight_shapes())
_KERAS3 = {
    "conv2d": (_CONVOLUTIONS, ("kernel",)),
    "batch_normalization": (_NORMALISATIONS, ("gamma", "beta", "moving_mean", "moving_variance")),
    "dense": ([HEAD], ("kernel", "bias")),
}
_KERAS3_PATH = re.compile(r"(?:.+/)?layers/([a-z0-9_]+?)(?:_(\d+))?/vars/(\d+)")


def name_keras2(paths: Iterable[str], *, source: str) -> dict[str, str]:
    """The network's name of each path in a Keras 2 `.h5`, saved as weights or as a whole model.

    Such a file names layers as the network does, but for the stem (`conv1/conv/kernel:0`), numbers that a session
    appends (`bn_1`), and the head, which is whichever other layer has weights. Raises ModelError for any further layer.
    """
    paths = list(paths)
    whole_model = any(path.startswith("model_weights/") for path in paths)
    names: dict[str, str] = {}
    others: dict[str, list[str]] = {}
    for path in paths:
        top, _, below = path.partition("/")
        if whole_model:
            if top != "model_weights":
                continue
            top = below.partition("/")[0]
        if top in {"top_level_model_weights", "optimizer_weights"}:
            continue
        parent, _, weight = path.removesuffix(":0").rpartition("/")
        layer = _keras2_layer(parent)
        if layer in _LAYERS:
            _add(names, path, f"{layer}/{weight}", source=source)
        else:
            others.setdefault(parent, []).append(path)
    if len(others) > 1:
        raise ModelError(f"{source}: has layers this network has not: {', '.join(sorted(others)[:3])}")
    for path in next(iter(others.values()), []):
        _add(names, path, f"{HEAD}/{path.removesuffix(':0').rpartition('/')[2]}", source=source)
    return names


def name_keras3(paths: Iterable[str], *, source: str) -> dict[str, str]:
    """The network's name of each path in a Keras 3 weights file, which numbers the layers of a kind in their order.

    Raises ModelError for a layer of another kind, or one more than the network has.
    """
    names: dict[str, str] = {}
    for path in paths:
        if not path.startswith("layers/") or "/seed_generator/" in path:
            continue
        match = _KERAS3_PATH.fullmatch(path)
        layers, weights = _KERAS3.get(match[1], ([], ())) if match else ([], ())
        layer, weight = (int(match[2] or 0), int(match[3])) if match else (0, 0)
        if layer >= len(layers) or weight >= len(weights):
            raise ModelError(f"{source}: {path} belongs to no layer of this network")
        _add(names, path, f"{layers[layer]}/{weights[weight]}", source=source)
    return names


def _keras2_layer(parent: str) -> str:
    """The network's name of the layer that a path's folder stands for, or the folder's last part if it is unknown."""
    stem = re.search(r"(?:^|/)conv1(?:_\d+)?/(conv|bn)(?:_\d+)?$", parent)
    if stem:
        return f"conv1_{stem[1]}"
    layer = parent.rpartition("/")[2]
    return layer if layer in _LAYERS else re.sub(r"_\d+$", "", layer)


def _add(names: dict[str, str], path: str, name: str, *, source: str) -> None:
    if name in names:
        raise ModelError(f"{source}: {names[name]} and {path} both are {name}")
    names[name] = path
