"""Weight randomisation (Adebayo et al. 2018, arXiv 1810.03292): a map must depend on the trained weights.

Layers are randomised from the head backwards. A map that does not change shows the image, not the model.
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
"""Shares of the backbone's layers that are randomised, from the last; the head always is."""


def list_stages(model: Model) -> dict[str, float]:
    """Return the possible stages: all for DenseNet-121, else the first and the last, as the layer order is unknown."""
    networks = model.networks if isinstance(model, Ensemble) else (model,)
    if all(network.manifest.architecture == DENSENET121 for network in networks):
        return STAGES
    return {name: STAGES[name] for name in (HEAD_STAGE, WHOLE_STAGE)}


def randomise_weights(model: Model, share: float, seed: int) -> Model:
    """Randomise the head and the last `share` of the backbone's layers; for an ensemble, of each member.

    Kernels are drawn from a normal distribution with the mean and standard deviation of the trained ones. The vectors
    of a layer are permuted consistently, so that a normalisation layer stays valid.
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
        else _randomise_array(array, np.random.default_rng([seed, *_layer_of(name).encode()]))
        for name, array in bundle.weights.items()
    }
    return Bundle(bundle.manifest, MappingProxyType(weights))


def _layer_of(name: str) -> str:
    return name.rpartition("/")[0]


def _randomise_array(array: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    if array.ndim > 1:
        return random.normal(array.mean(), array.std(), array.shape).astype(np.float32)
    return random.permutation(array)
