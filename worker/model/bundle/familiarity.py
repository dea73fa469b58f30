"""How far a photograph's features are from those of the photographs that a model has learned from.

Each network's pooled features (C,) are projected onto the directions in which the training photographs vary most, and
onto random directions of the space in which they hardly vary, which estimate the distance from the former. Every
direction is divided by the standard deviation of the training photographs along it, so that the distance is that of
Mahalanobis. Sources: Lee et al. 2018, arXiv 1807.03888; Wang et al. 2022, arXiv 2203.10807, for the second part.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from worker.core.errors import ModelError

FAMILIARITY_FILE = "familiarity.safetensors"
MAX_FAMILIARITY_BYTES = 8 * 1024 * 1024
FALSE_ALARM_SHARE = 0.02
"""Share of held-out photographs whose unfamiliarity is above 1."""
VARIED_DIRECTIONS, OTHER_DIRECTIONS = 64, 64

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FeatureSpace:
    """Scaled directions (C, K) of a network's features, and the projection (K,) of the mean training photograph."""

    directions: Array
    centre: Array

    def square_distances(self, projections: Array) -> Array:
        """Return the squared distances (N,) of projections (N, K) from the centre."""
        return np.asarray(np.square(projections - self.centre).sum(axis=1), np.float32)


@dataclass(frozen=True, slots=True)
class Familiarity:
    """A feature space for each network of a model, and the distance of the photographs at the false-alarm share."""

    spaces: tuple[FeatureSpace, ...]
    scale: float

    def unfamiliarity(self, projections: Sequence[Array]) -> Array:
        """Return the unfamiliarity (N,) of N images from the projections (N, K) by each network.

        Above 1, a photograph is farther from the training photographs than 98 % of held-out ones.
        """
        return np.asarray(self.distances(projections) / self.scale, np.float32)

    def distances(self, projections: Sequence[Array]) -> Array:
        """Return the distances (N,), the root mean square over the networks."""
        squares = [space.square_distances(projected) for space, projected in zip(self.spaces, projections, strict=True)]
        return np.asarray(np.sqrt(np.mean(squares, axis=0)), np.float32)


def learn_feature_space(features: Array, *, seed: int = 0) -> FeatureSpace:
    """Learn the space of a network from the pooled features (N, C) of its training photographs.

    Raises ValueError for fewer photographs than twice the number of varied directions.
    """
    count, channels = features.shape
    if count < 2 * VARIED_DIRECTIONS:
        raise ValueError(f"{count} photographs, {2 * VARIED_DIRECTIONS} are needed")
    mean = features.mean(axis=0, dtype=np.float64)
    centred = features - mean
    _, singular, transposed = np.linalg.svd(centred, full_matrices=False)
    varied = transposed[:VARIED_DIRECTIONS].T
    varied_deviations = singular[:VARIED_DIRECTIONS] / np.sqrt(count)
    random = np.random.default_rng(seed).normal(size=(channels, OTHER_DIRECTIONS))
    others, _ = np.linalg.qr(random - varied @ (varied.T @ random))
    other_deviation = np.sqrt(np.square(singular[VARIED_DIRECTIONS:]).sum() / count / (channels - VARIED_DIRECTIONS))
    floor = np.finfo(np.float32).eps * max(float(singular[0]), 1.0)
    directions = np.concatenate(
        [varied / np.maximum(varied_deviations, floor), others / max(float(other_deviation), floor)], axis=1
    )
    # As in the file, so that reading it changes no distance.
    stored = directions.astype(np.float16).astype(np.float32)
    return FeatureSpace(stored, np.asarray(mean @ stored, np.float32))


def calibrate_scale(spaces: Sequence[FeatureSpace], features: Sequence[Array]) -> Familiarity:
    """Return the familiarity whose scale is exceeded by FALSE_ALARM_SHARE of these photographs.

    features: the pooled features (N, C) by each network, of photographs that were not trained on.
    """
    raw = Familiarity(tuple(spaces), 1.0)
    distances = raw.distances([one @ space.directions for one, space in zip(features, spaces, strict=True)])
    return Familiarity(raw.spaces, float(np.quantile(distances, 1 - FALSE_ALARM_SHARE)))


def serialise_familiarity(familiarity: Familiarity) -> bytes:
    """Return a safetensors file with directions in float16."""
    arrays: dict[str, NDArray[np.generic]] = {"scale": np.array([familiarity.scale], np.float32)}
    for number, space in enumerate(familiarity.spaces):
        arrays[f"{number}/directions"] = np.asarray(space.directions, np.float16, order="C")
        arrays[f"{number}/centre"] = space.centre
    return save(arrays)


def parse_familiarity(data: bytes, channels: Sequence[int], *, source: str) -> Familiarity:
    """Return the familiarity in a safetensors file.

    channels: number of features C of each network. source: names the file in errors. Raises ModelError for damaged
    content, other shapes, and values that are not finite.
    """
    try:
        arrays = load(data)
    except (SafetensorError, KeyError) as error:
        raise ModelError(f"{source}: {error}") from error
    expected = {"scale"} | {f"{number}/{part}" for number in range(len(channels)) for part in ("directions", "centre")}
    if arrays.keys() != expected:
        other = sorted(arrays.keys() ^ expected)
        raise ModelError(f"{source}: {len(other)} arrays are missing or unknown, the first is {other[0]}")
    if bad := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
        raise ModelError(f"{source}: {bad[0]} has a value that is not finite")
    spaces = []
    for number, count in enumerate(channels):
        directions, centre = (arrays[f"{number}/{part}"].astype(np.float32) for part in ("directions", "centre"))
        if directions.ndim != 2 or directions.shape[0] != count or centre.shape != directions.shape[1:]:
            raise ModelError(
                f"{source}: directions {directions.shape} and centre {centre.shape} of network {number} do not fit"
                f" its {count} features"
            )
        spaces.append(FeatureSpace(directions, centre))
    scale = arrays["scale"]
    if scale.shape != (1,) or scale[0] <= 0:
        raise ModelError(f"{source}: scale is {scale.tolist()}, one positive number is needed")
    return Familiarity(tuple(spaces), float(scale[0]))
