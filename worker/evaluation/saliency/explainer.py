"""Ask a model for the maps of outputs that are named, so that maps of one picture can be held against each other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import ModelError
from worker.core.predictions import ModelInput
from worker.model.bundle.ensemble import Model
from worker.model.class_activation_maps import find_explained_outputs, find_highest_passed, sigmoid, to_saliency
from worker.model.engines.factory import EngineName, is_closed_form, make_class_map_engine, make_engine

BATCH = 16

Outputs = NDArray[np.int64]
Answer = tuple[NDArray[np.float32], Outputs, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Explanations:
    """Of N pictures: probabilities (N, 5), the highest output that each passes (N,), the one that its map explains
    (N,), saliency (N, h, w) in [0, 1]."""

    probabilities: NDArray[np.float32]
    passed: Outputs
    explained: Outputs
    saliency: NDArray[np.float32]


class Explainer:
    """A model on a device, as the worker has it."""

    def __init__(self, engine: EngineName, model: Model, *, either_sign: bool = False) -> None:
        """either_sign: what speaks against an output is its map where that is more, as it would be with a head of the
        other sign; of a head that was drawn at random, one is as good as the other.
        """
        self.model = model
        by_class_maps = is_closed_form(model)
        self._ask = (
            _explain_closed_form(engine, model, either_sign=either_sign)
            if by_class_maps
            else _explain_by_gradient(engine, model)
        )

    def explain(self, pictures: Sequence[ModelInput], outputs: Outputs | None = None) -> Explanations:
        """Each picture's map of its own output of `outputs`, or of the one that a worker explains where none are given.

        A model that is explained before its last feature map, by a backward pass, tells of that one alone.
        N >= 1. Raises ModelError for values that are not finite.
        """
        answers = [
            self._ask(pictures[at : at + BATCH], None if outputs is None else outputs[at : at + BATCH])
            for at in range(0, len(pictures), BATCH)
        ]
        probabilities, explained, saliency = (np.concatenate(part) for part in zip(*answers, strict=True))
        return Explanations(
            probabilities, find_highest_passed(probabilities, self.model.thresholds), explained, saliency
        )


def _explain_closed_form(
    engine: EngineName, model: Model, *, either_sign: bool
) -> Callable[[Sequence[ModelInput], Outputs | None], Answer]:
    weigher = make_class_map_engine(engine, model)

    def ask(pictures: Sequence[ModelInput], outputs: Outputs | None) -> Answer:
        evidence = weigher.class_maps(pictures)
        if not (np.isfinite(evidence.logits).all() and np.isfinite(evidence.maps).all()):
            raise ModelError(f"model {model.model_id} yields a value that is not finite")
        probabilities = sigmoid(evidence.logits)
        explained = _find_explained(probabilities, model) if outputs is None else outputs
        maps = evidence.maps
        if either_sign:
            maps = maps * np.where(maps.mean(axis=(2, 3), keepdims=True) < 0, np.float32(-1), np.float32(1))
        return probabilities, explained, to_saliency(maps, explained)

    return ask


def _explain_by_gradient(engine: EngineName, model: Model) -> Callable[[Sequence[ModelInput], Outputs | None], Answer]:
    made = make_engine(engine, model)

    def ask(pictures: Sequence[ModelInput], _outputs: Outputs | None) -> Answer:
        found = made.predict(pictures)
        probabilities = np.stack([one.probabilities for one in found])
        explained = _find_explained(probabilities, model)
        return probabilities, explained, np.stack([one.saliency for one in found])

    return ask


def _find_explained(probabilities: NDArray[np.float32], model: Model) -> Outputs:
    return find_explained_outputs(probabilities, model.thresholds, model.explained_outputs)
