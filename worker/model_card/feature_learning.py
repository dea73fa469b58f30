"""Read the features of photographs that a model was trained on, and of others; learn feature spaces from them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import UsageError
from worker.core.predictions import ModelInput
from worker.core.settings import Settings
from worker.model.bundle.ensemble import Model
from worker.model.bundle.familiarity import VARIED_DIRECTIONS, Familiarity, calibrate_scale, learn_feature_space
from worker.model.engines.features import FeatureReader
from worker.training.dataset import ExcludedImage, hash_pixels, prepare_examples
from worker.training.examples import read_examples
from worker.training.lineage import Lineage
from worker.training.split import HASH_DIGITS

BATCH = 16
MIN_TRAINING = 2 * VARIED_DIRECTIONS
MIN_HELD_OUT = 100
"""Least number of held-out photographs: two of them exceed the scale."""


@dataclass(frozen=True, slots=True)
class LearnedFamiliarity:
    """Feature spaces, and the numbers of photographs that they were learned from and scaled on."""

    familiarity: Familiarity
    training: int
    held_out: int


class _Part:
    """Collects the features of the training or of the held-out photographs in batches."""

    def __init__(self, reader: FeatureReader) -> None:
        self._reader = reader
        self._batch: list[ModelInput] = []
        self._features: list[list[NDArray[np.float32]]] = []

    def add(self, image: ModelInput) -> None:
        self._batch.append(image)
        if len(self._batch) == BATCH:
            self._read()

    def finish(self) -> list[NDArray[np.float32]]:
        """Return the features (N, C) by each network; no array without photographs."""
        if self._batch:
            self._read()
        return [np.concatenate(batches) for batches in zip(*self._features, strict=True)]

    def _read(self) -> None:
        self._features.append(self._reader.read_pooled(self._batch))
        self._batch = []


def read_pooled_features(
    model: Model,
    lineage: Lineage,
    manifest: Path,
    settings: Settings,
    *,
    limit: int,
    on_warning: Callable[[str], None],
    on_progress: Callable[[], object],
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Return the pooled features (N, C) by each network of the training photographs of a manifest, and of the others.

    limit: approximate number of training photographs that are used, chosen by their pixel hashes. A part without
    photographs is an empty list. Raises SourceError for a manifest that `fundus enqueue` would reject, UsageError if
    the training set is unknown, and for a network that OpenVINO does not support.
    """
    if lineage.trained_on is None:
        raise UsageError(f"the training set of {model.name} is unknown; its features are needed")
    reader = FeatureReader(model)
    training, held_out = _Part(reader), _Part(reader)
    highest = min(1.0, limit / max(len(lineage.trained_on), 1)) * 16**HASH_DIGITS
    examples = read_examples(manifest, settings, on_warning)
    for _, prepared in prepare_examples(examples, model.recipe, extra_recipes=model.extra_recipes, settings=settings):
        on_progress()
        if isinstance(prepared, ExcludedImage):
            continue
        pixels = hash_pixels(prepared)[:HASH_DIGITS]
        if pixels not in lineage.trained_on:
            held_out.add(prepared.model_input)
        elif int(pixels, 16) < highest:
            training.add(prepared.model_input)
    return training.finish(), held_out.finish()


def learn_familiarity(
    model: Model,
    lineage: Lineage,
    manifest: Path,
    settings: Settings,
    *,
    limit: int,
    on_warning: Callable[[str], None],
    on_progress: Callable[[], object],
) -> LearnedFamiliarity:
    """Learn a feature space for each network, and scale the distance on photographs that were not trained on.

    Raises as `read_pooled_features` does, and UsageError for too few photographs of either part.
    """
    learned, others = read_pooled_features(
        model, lineage, manifest, settings, limit=limit, on_warning=on_warning, on_progress=on_progress
    )
    counts = len(learned[0]) if learned else 0, len(others[0]) if others else 0
    if counts[0] < MIN_TRAINING or counts[1] < MIN_HELD_OUT:
        raise UsageError(
            f"{manifest}: {counts[0]} training and {counts[1]} held-out photographs; {MIN_TRAINING} and {MIN_HELD_OUT}"
            " are needed"
        )
    return LearnedFamiliarity(calibrate_scale([learn_feature_space(one) for one in learned], others), *counts)
