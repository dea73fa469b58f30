"""Calibrate INT8 activation ranges on some photographs, and compare INT8 with float32 on others."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import ModelError, SourceError
from worker.core.predictions import ModelInput, Prediction
from worker.core.settings import Settings
from worker.model.bundle.bundle import Bundle
from worker.model.engines.acceptance import EngineAgreement, measure_agreement
from worker.model.engines.openvino_engine import OpenVinoEngine
from worker.model.engines.openvino_int8 import measure_activation_ranges
from worker.training.dataset import ExcludedImage, prepare_examples
from worker.training.examples import Example

BATCH = 16
MIN_IMAGES = 32
"""Least number of photographs in the calibration set and in the test set."""


def quantise(
    bundle: Bundle,
    examples: Sequence[Example],
    *,
    images: int,
    seed: int,
    settings: Settings,
    on_progress: Callable[[], object],
) -> tuple[dict[str, NDArray[np.float32]], EngineAgreement]:
    """Measure activation ranges, and the agreement of the INT8 engine that uses them with float32.

    images: number of photographs in the calibration set, drawn at random; the others are the test set. on_progress:
    called after each photograph. Raises SourceError if a set has fewer than MIN_IMAGES photographs, ModelError if the
    agreement misses the acceptance limits.
    """
    order = np.random.default_rng(seed).permutation(len(examples))
    calibration, test = ([examples[index] for index in part] for part in (order[:images], order[images:]))
    for part, members in (("calibration", calibration), ("test", test)):
        if len(members) < MIN_IMAGES:
            raise SourceError(
                f"the {part} set has {len(members)} of the {len(examples)} photographs, {MIN_IMAGES} are needed"
            )
    ranges = measure_activation_ranges(bundle, _batches(bundle, calibration, settings, on_progress))
    quantised = replace(bundle, activation_ranges=MappingProxyType(ranges))
    engines = OpenVinoEngine(bundle, "f32"), OpenVinoEngine(quantised, "int8")
    expected: list[Prediction] = []
    found: list[Prediction] = []
    for batch in _batches(bundle, test, settings, on_progress):
        for engine, predictions in zip(engines, (expected, found), strict=True):
            predictions.extend(engine.predict(batch))
    agreement = measure_agreement(
        expected, found, bundle.thresholds, engine="openvino", precision="int8", model_id=bundle.model_id
    )
    if not agreement.passed:
        figures = "; ".join(" ".join(line.split()) for line in agreement.lines)
        raise ModelError(
            f"{bundle.name}: INT8 misses the acceptance limits on {agreement.images:,} photographs: {figures}"
        )
    return ranges, agreement


def _batches(
    bundle: Bundle, examples: Sequence[Example], settings: Settings, on_progress: Callable[[], object]
) -> Iterator[list[ModelInput]]:
    """Yield batches of enhanced images without invalid and ungradable ones. Raises SourceError if none remains."""
    batch: list[ModelInput] = []
    excluded: ExcludedImage | None = None
    empty = True
    for _, prepared in prepare_examples(examples, bundle.recipe, settings=settings):
        on_progress()
        if isinstance(prepared, ExcludedImage):
            excluded = prepared
            continue
        batch.append(prepared.enhanced)
        if len(batch) == BATCH:
            yield batch
            batch, empty = [], False
    if batch:
        yield batch
    elif empty and excluded is not None:
        raise SourceError(f"no photograph can be graded; last: {excluded.code}, {excluded.detail}")
