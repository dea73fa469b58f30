"""Compute saliency maps of chosen outputs, so that maps of one image can be compared between models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import ModelError
from worker.core.predictions import ModelInput
from worker.model.bundle.ensemble import Model
from worker.model.class_activation_maps import find_explained_outputs, find_highest_passed, sigmoid, to_saliency
from worker.model.engines.factory import EngineName, make_engine

BATCH = 16

Outputs = NDArray[np.int64]
Explained = tuple[NDArray[np.float32], Outputs, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Explanations:
    """Predictions and saliency maps of N images.

    probabilities: float32 (N, 5). passed: (N,), highest output passed. explained: (N,), output that the map explains.
    saliency: float32 (N, h, w) in [0, 1].
    """

    probabilities: NDArray[np.float32]
    passed: Outputs
    explained: Outputs
    saliency: NDArray[np.float32]


class Explainer:
    """A model on the device that the worker would use."""

    def __init__(self, engine: EngineName, model: Model, *, either_sign: bool = False) -> None:
        """either_sign: flip the sign of maps with a negative mean; for random heads, whose sign is arbitrary."""
        self.model = model
        by_class_maps = model.manifest.is_closed_form
        self._explain_batch = (
            _explain_closed_form(engine, model, either_sign=either_sign)
            if by_class_maps
            else _explain_by_gradient(engine, model)
        )

    def explain(self, images: Sequence[ModelInput], outputs: Outputs | None = None) -> Explanations:
        """Explain N >= 1 images.

        outputs: (N,), output to explain for each image; None for those that a worker explains. A model without maps in
        closed form ignores `outputs`. Raises ModelError for values that are not finite.
        """
        batches = [
            self._explain_batch(images[at : at + BATCH], None if outputs is None else outputs[at : at + BATCH])
            for at in range(0, len(images), BATCH)
        ]
        probabilities, explained, saliency = (np.concatenate(part) for part in zip(*batches, strict=True))
        return Explanations(
            probabilities, find_highest_passed(probabilities, self.model.thresholds), explained, saliency
        )


def _explain_closed_form(
    engine: EngineName, model: Model, *, either_sign: bool
) -> Callable[[Sequence[ModelInput], Outputs | None], Explained]:
    class_map_engine = make_engine(engine, model)

    def explain_batch(images: Sequence[ModelInput], outputs: Outputs | None) -> Explained:
        found = class_map_engine.class_maps(images)
        if not (np.isfinite(found.logits).all() and np.isfinite(found.maps).all()):
            raise ModelError(f"model {model.model_id} yields a value that is not finite")
        probabilities = sigmoid(found.logits)
        explained = _find_explained(probabilities, model) if outputs is None else outputs
        maps = found.maps
        if either_sign:
            maps = maps * np.where(maps.mean(axis=(2, 3), keepdims=True) < 0, np.float32(-1), np.float32(1))
        saliency, _ = to_saliency(maps, explained)
        return probabilities, explained, saliency

    return explain_batch


def _explain_by_gradient(
    engine: EngineName, model: Model
) -> Callable[[Sequence[ModelInput], Outputs | None], Explained]:
    predictor = make_engine(engine, model)

    def explain_batch(images: Sequence[ModelInput], _outputs: Outputs | None) -> Explained:
        found = predictor.predict(images)
        probabilities = np.stack([one.probabilities for one in found])
        explained = _find_explained(probabilities, model)
        return probabilities, explained, np.stack([one.saliency for one in found])

    return explain_batch


def _find_explained(probabilities: NDArray[np.float32], model: Model) -> Outputs:
    return find_explained_outputs(probabilities, model.thresholds, model.explained_outputs)
