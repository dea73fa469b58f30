"""The weight-randomisation sanity check (Adebayo et al. 2018, arXiv 1810.03292): a map has to hang on what was learnt.

Layers lose what they learnt, from the head backwards. A map that stays as it was shows the picture, not the model.
"""

from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from worker.model.architecture import DENSENET121, HEAD
from worker.model.bundle.bundle import Bundle
from worker.model.bundle.ensemble import Ensemble, Model

HEAD_STAGE, WHOLE_STAGE = "head", "all layers"
STAGES = {
    HEAD_STAGE: 0.0,
    "last fifth": 0.2,
    "last two fifths": 0.4,
    "last three fifths": 0.6,
    "last four fifths": 0.8,
    WHOLE_STAGE: 1.0,
}
"""Shares of the backbone's layers, from the last; the head is always redrawn."""


def list_stages(model: Model) -> dict[str, float]:
    """Those of STAGES for which the order of the model's layers is known: of other backbones only the two ends."""
    networks = model.networks if isinstance(model, Ensemble) else (model,)
    if all(network.manifest.architecture == DENSENET121 for network in networks):
        return STAGES
    return {name: STAGES[name] for name in (HEAD_STAGE, WHOLE_STAGE)}


def randomise_weights(model: Model, share: float, seed: int) -> Model:
    """The model with its head and the last `share` of its backbone's layers redrawn; of an ensemble, of each member.

    Kernels are drawn from a normal distribution with their own mean and spread; the vectors of a layer change the
    places of their channels, all in the same way, so that a normalisation stays one.
    """
    if isinstance(model, Ensemble):
        networks = tuple(_randomise(network, share, seed + place) for place, network in enumerate(model.networks))
        return Ensemble(model.manifest, networks)
    return _randomise(model, share, seed)


def _randomise(bundle: Bundle, share: float, seed: int) -> Bundle:
    layers = list(dict.fromkeys(_layer_of(name) for name in bundle.weights if _layer_of(name) != HEAD))
    kept = set(layers[: round(len(layers) * (1 - share))])
    weights = {
        name: array
        if _layer_of(name) in kept
        else _draw(array, np.random.default_rng([seed, *_layer_of(name).encode()]))
        for name, array in bundle.weights.items()
    }
    return Bundle(bundle.manifest, MappingProxyType(weights))


def _layer_of(name: str) -> str:
    return name.rpartition("/")[0]


def _draw(array: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    if array.ndim > 1:
        return random.normal(array.mean(), array.std(), array.shape).astype(np.float32)
    return random.permutation(array)
