"""Measure the ranges of a network's maps on some photographs, and judge its 8 bits by others."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import ModelError, SourceError
from worker.core.predictions import Enhanced, Prediction
from worker.core.settings import Settings
from worker.model.bundle.bundle import Bundle
from worker.model.engines.acceptance import EngineAgreement, measure_agreement
from worker.model.engines.openvino_engine import OpenVinoEngine
from worker.model.engines.openvino_int8 import measure_activation_ranges
from worker.training.dataset import ExcludedImage, prepare_examples
from worker.training.examples import Example

BATCH = 16
MIN_IMAGES = 32
"""Photographs of either part."""


def quantise(
    bundle: Bundle,
    examples: Sequence[Example],
    *,
    images: int,
    seed: int,
    settings: Settings,
    on_progress: Callable[[], object],
) -> tuple[dict[str, NDArray[np.float32]], EngineAgreement]:
    """The ranges, of so many photographs drawn at random, and what the others say of grades and maps in 8 bits.

    They are compared with float32. `on_progress` is called after each photograph. Raises SourceError where either part
    has too few of them, ModelError where the gate is failed.
    """
    order = np.random.default_rng(seed).permutation(len(examples))
    measured, judges = ([examples[index] for index in part] for part in (order[:images], order[images:]))
    for part, some in (("to measure", measured), ("to judge by", judges)):
        if len(some) < MIN_IMAGES:
            raise SourceError(f"{len(some)} photographs {part}, {MIN_IMAGES} are needed of {len(examples)} in all")
    ranges = measure_activation_ranges(bundle, _batches(bundle, measured, settings, on_progress))
    ready = replace(bundle, activation_ranges=MappingProxyType(ranges))
    engines = OpenVinoEngine(bundle, "f32"), OpenVinoEngine(ready, "int8")
    expected: list[Prediction] = []
    got: list[Prediction] = []
    for batch in _batches(bundle, judges, settings, on_progress):
        for engine, answers in zip(engines, (expected, got), strict=True):
            answers.extend(engine.predict(batch))
    verdict = measure_agreement(expected, got, bundle.thresholds, precision="int8", model_id=bundle.model_id)
    if not verdict.passed:
        figures = "; ".join(" ".join(line.split()) for line in verdict.lines)
        raise ModelError(f"{bundle.name} in 8 bits fails the gate on {verdict.images:,} photographs: {figures}")
    return ranges, verdict


def _batches(
    bundle: Bundle, examples: Sequence[Example], settings: Settings, on_progress: Callable[[], object]
) -> Iterator[list[Enhanced]]:
    """What no worker would grade is left out. Raises SourceError where nothing remains."""
    batch: list[Enhanced] = []
    left_out: ExcludedImage | None = None
    none = True
    for _, prepared in prepare_examples(examples, bundle.recipe, settings=settings):
        on_progress()
        if isinstance(prepared, ExcludedImage):
            left_out = prepared
            continue
        batch.append(prepared.enhanced)
        if len(batch) == BATCH:
            yield batch
            batch, none = [], False
    if batch:
        yield batch
    elif none and left_out is not None:
        raise SourceError(f"no photograph can be graded; the last: {left_out.code}, {left_out.detail}")
