"""Move the evidence of an output onto lesions, and keep its logits.

A logit is the mean over the cells of a class map, w . A(cell), so it depends on the pooled features alone. These vary
in few directions between photographs, while the head's kernel w has a value for each channel. So w can change in
directions that hardly change the logits of photographs, but change their maps.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Array = NDArray[np.float32]

FOLDS = 6
RIDGE = 1e-3
MAX_ITERATIONS = 80
BISECTIONS = 6
_PENALTIES = (1e-1, 1e4)
_SHARPNESS = 10.0
"""The positive part of a map is replaced by a softplus, which has a gradient everywhere; its sharpness is this value
per standard deviation of the maps."""
_LEAST_ENERGY = 1e-9


@dataclass(frozen=True, slots=True)
class LesionMaps:
    """Feature maps of photographs with lesion masks, and where their lesions are.

    features: (N, cells, C). on_lesions, in_field: energy by cell, (N, cells), see `measure_cells`.
    """

    features: Array
    on_lesions: Array
    in_field: Array

    def select(self, indices: NDArray[np.int64]) -> "LesionMaps":
        """Return the photographs with these indices."""
        return LesionMaps(self.features[indices], self.on_lesions[indices], self.in_field[indices])

    def measure_energy(self, kernel: Array) -> Array:
        """Return the share of each map's energy in the field that is on lesions, (N,). kernel: (C,)."""
        maps = np.maximum(self.features @ kernel, 0)
        total = (maps * self.in_field).sum(axis=1)
        return np.asarray((maps * self.on_lesions).sum(axis=1) / np.where(total > 0, total, 1), np.float32)


@dataclass(frozen=True, slots=True)
class Localisation:
    """A new kernel (C,) of one output, and the mean energy on lesions of the photographs with masks.

    held_out: with kernels that were chosen without the photograph. drift: root mean square of the change of the
    training photographs' logits, as a share of their standard deviation.
    """

    kernel: Array
    before: float
    held_out: float
    after: float
    drift: float


def localise_maps(kernel: Array, maps: LesionMaps, pooled: Array, *, max_drift: float, seed: int = 0) -> Localisation:
    """Return the kernel of one output that has the most energy on lesions within `max_drift`.

    kernel: (C,). pooled: features of training photographs, (M, C). seed: of the folds.
    """
    penalty = _find_penalty(kernel, maps, pooled, max_drift)
    order = np.random.default_rng(seed).permutation(len(maps.features))
    held_out = np.zeros(len(order), np.float32)
    for fold in np.array_split(order, min(FOLDS, len(order))):
        others = maps.select(np.setdiff1d(order, fold))
        held_out[fold] = maps.select(fold).measure_energy(_change_kernel(kernel, others, pooled, penalty))
    changed = _change_kernel(kernel, maps, pooled, penalty)
    return Localisation(
        changed,
        before=float(maps.measure_energy(kernel).mean()),
        held_out=float(held_out.mean()),
        after=float(maps.measure_energy(changed).mean()),
        drift=_measure_drift(kernel, changed, pooled),
    )


def _find_penalty(kernel: Array, maps: LesionMaps, pooled: Array, max_drift: float) -> float:
    """Return the smallest penalty whose drift is at most `max_drift`, by bisection of its logarithm."""
    low, high = np.log(_PENALTIES)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        changed = _change_kernel(kernel, maps, pooled, float(np.exp(middle)))
        low, high = (middle, high) if _measure_drift(kernel, changed, pooled) > max_drift else (low, middle)
    return float(np.exp(high))


def _measure_drift(kernel: Array, changed: Array, pooled: Array) -> float:
    return float(np.sqrt(np.mean((pooled @ (changed - kernel)) ** 2)) / (pooled @ kernel).std())


def _change_kernel(kernel: Array, maps: LesionMaps, pooled: Array, penalty: float) -> Array:
    """Return the kernel that minimises the mean negative logarithm of the energy on lesions, plus penalties."""
    count, cells, channels = maps.features.shape
    flat = maps.features.reshape(count * cells, channels)
    evidence = (flat @ kernel).reshape(count, cells)
    sharpness = _SHARPNESS / float(evidence.std())
    variance = float((pooled @ kernel).var())
    moments = pooled.T @ pooled / np.float32(len(pooled))

    def loss(change: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        signed = evidence + (flat @ change.astype(np.float32)).reshape(count, cells)
        positive = np.logaddexp(0, sharpness * signed) / sharpness + _LEAST_ENERGY
        slope = 0.5 + 0.5 * np.tanh(0.5 * sharpness * signed)
        on_lesions = (positive * maps.on_lesions).sum(axis=1, keepdims=True)
        in_field = (positive * maps.in_field).sum(axis=1, keepdims=True)
        by_cell = (maps.in_field / in_field - maps.on_lesions / on_lesions) * slope / count
        drift = moments @ change.astype(np.float32) / variance
        gradient = by_cell.astype(np.float32).ravel() @ flat + 2 * (penalty * drift + RIDGE * change)
        energy = np.log(in_field).mean() - np.log(on_lesions).mean()
        return float(energy + change @ (penalty * drift + RIDGE * change)), gradient.astype(np.float64)

    found = minimize(loss, np.zeros(channels), jac=True, method="L-BFGS-B", options={"maxiter": MAX_ITERATIONS})
    return np.asarray(kernel + found.x, np.float32)
