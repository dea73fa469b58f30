"""Grade a manifest with a bundle, and tell which of its photographs the bundle has never learnt from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worker.core.errors import UsageError
from worker.core.predictions import ModelInput, Prediction
from worker.core.settings import Settings
from worker.core.vocabulary import Status
from worker.evaluation.document import Evaluation, evaluate
from worker.evaluation.labelled import NOT_GRADED, GradedRun, Labelled
from worker.model.engines.protocol import Engine
from worker.model.ordinal import decode_outputs
from worker.training.dataset import ExcludedImage, hash_pixels, prepare_examples
from worker.training.examples import Example, hash_file, read_examples
from worker.training.lineage import Lineage
from worker.training.split import HASH_DIGITS

BATCH = 16


@dataclass(frozen=True, slots=True)
class HeldOutEvaluation:
    """What a bundle made of one set of photographs.

    `learnt_from`: how many of the manifest were left out since the bundle has learnt from their pixels; None where
    nobody wrote down what it learnt from, and none could be left out.
    """

    name: str
    manifest_sha256: str
    excluded_as_trained: int | None
    images: Labelled
    evaluation: Evaluation


def evaluate_held_out(
    name: str,
    manifest: Path,
    engine: Engine,
    lineage: Lineage,
    settings: Settings,
    *,
    on_warning: Callable[[str], None],
    on_progress: Callable[[], object],
) -> HeldOutEvaluation:
    """Everything in the manifest that has a reference grade and that the bundle has never learnt from.

    Raises SourceError as `fundus enqueue` does for the same manifest, UsageError where nothing remains.
    """
    examples = read_examples(manifest, settings, on_warning)
    model = engine.bundle
    waiting: list[tuple[Example, ModelInput]] = []
    graded: list[tuple[Example, Prediction]] = []
    refused: list[tuple[Example, ExcludedImage]] = []
    known = 0
    for example, prepared in prepare_examples(
        examples, model.recipe, extra_recipes=model.extra_recipes, settings=settings
    ):
        if isinstance(prepared, ExcludedImage):
            refused.append((example, prepared))
        elif _is_known(hash_pixels(prepared), lineage):
            known += 1
        else:
            waiting.append((example, prepared.model_input))
        if len(waiting) == BATCH:
            graded += _grade(engine, waiting)
            waiting = []
        on_progress()
    graded += _grade(engine, waiting)
    if not graded:
        raise UsageError(
            f"{manifest}: the bundle has learnt from all of its {known:,} photographs"
            if known
            else f"{manifest}: none of its {len(refused):,} photographs can be graded; the first: {refused[0][1].code}"
        )
    images = _label(graded, refused, model.thresholds)
    run = GradedRun(0, name, "finished", model.model_id, model.name, {})
    return HeldOutEvaluation(
        name=name,
        manifest_sha256=hash_file(manifest),
        excluded_as_trained=None if lineage.trained_on is None else known,
        images=images,
        evaluation=evaluate(run, images, {}, resamples=1000, seed=0, on_progress=lambda: None),
    )


def _grade(engine: Engine, some: Sequence[tuple[Example, ModelInput]]) -> list[tuple[Example, Prediction]]:
    predictions = engine.predict([enhanced for _, enhanced in some])
    return [(example, prediction) for (example, _), prediction in zip(some, predictions, strict=True)]


def _label(
    graded: Sequence[tuple[Example, Prediction]],
    refused: Sequence[tuple[Example, ExcludedImage]],
    thresholds: Sequence[float],
) -> Labelled:
    """The new pictures as graded, and those that no worker would have graded as what they would have become."""
    everyone = [example for example, _ in (*graded, *refused)]
    probabilities = np.full((len(everyone), 5), np.nan)
    grades = np.full(len(everyone), NOT_GRADED, np.int64)
    for row, (_, prediction) in enumerate(graded):
        probabilities[row] = prediction.probabilities
        grades[row] = decode_outputs(prediction.probabilities, thresholds).grade
    statuses = [Status.GRADED] * len(graded) + [
        Status.UNGRADABLE if entry.ungradable else Status.FAILED for _, entry in refused
    ]
    return Labelled(
        ids=np.array([example.image_id for example in everyone]),
        eyes=np.full(len(everyone), ""),
        patients=np.array([example.patient_id or "" for example in everyone]),
        statuses=np.array([str(status) for status in statuses]),
        reference=np.array([int(example.grade) for example in everyone], np.int64),
        grades=grades,
        probabilities=probabilities,
    )


def _is_known(pixels: str, lineage: Lineage) -> bool:
    return lineage.trained_on is not None and pixels[:HASH_DIGITS] in lineage.trained_on
