"""Grade and evaluate the photographs of a manifest that a bundle was not trained on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
class HeldOutGrades:
    """Grades of the photographs of a manifest that are not in the training set.

    sources: the site or camera of each image, str (N,); an unknown one is empty. excluded_as_trained: number of
    photographs of the manifest that are excluded because their pixels are in the training set; None if the training set
    is unknown, and nothing is excluded.
    """

    images: Labelled
    sources: NDArray[np.str_]
    excluded_as_trained: int | None


@dataclass(frozen=True, slots=True)
class HeldOutEvaluation:
    """Evaluation of a bundle on the held-out photographs of a manifest, also by source."""

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
    """Grade the photographs of a manifest that are not in the training set, and evaluate the grades.

    Raises as `grade_held_out` does.
    """
    graded = grade_held_out(manifest, engine, lineage, settings, on_warning=on_warning, on_progress=on_progress)
    model = engine.bundle
    run = GradedRun(0, name, "finished", model.model_id, model.name, {})
    columns = {"source": graded.sources} if len(np.unique(graded.sources)) > 1 else {}
    return HeldOutEvaluation(
        name=name,
        manifest_sha256=hash_file(manifest),
        excluded_as_trained=graded.excluded_as_trained,
        images=graded.images,
        evaluation=evaluate(run, graded.images, columns, resamples=1000, seed=0, on_progress=lambda: None),
    )


def grade_held_out(
    manifest: Path,
    engine: Engine,
    lineage: Lineage,
    settings: Settings,
    *,
    on_warning: Callable[[str], None],
    on_progress: Callable[[], object],
) -> HeldOutGrades:
    """Grade the photographs of a manifest that have a reference grade and are not in the training set.

    Raises SourceError for a manifest that `fundus enqueue` would reject, UsageError if no graded photograph remains.
    """
    examples = read_examples(manifest, settings, on_warning)
    model = engine.bundle
    batch: list[tuple[Example, ModelInput]] = []
    graded: list[tuple[Example, Prediction]] = []
    excluded: list[tuple[Example, ExcludedImage]] = []
    trained = 0
    for example, prepared in prepare_examples(
        examples, model.recipe, extra_recipes=model.extra_recipes, settings=settings
    ):
        if isinstance(prepared, ExcludedImage):
            excluded.append((example, prepared))
        elif _is_in_training_set(hash_pixels(prepared), lineage):
            trained += 1
        else:
            batch.append((example, prepared.model_input))
        if len(batch) == BATCH:
            graded += _grade(engine, batch)
            batch = []
        on_progress()
    graded += _grade(engine, batch)
    if not graded:
        raise UsageError(
            f"{manifest}: all {trained:,} photographs are in the training set of the bundle"
            if trained
            else f"{manifest}: all {len(excluded):,} photographs are excluded; first: {excluded[0][1].code}"
        )
    return HeldOutGrades(
        images=_to_labelled(graded, excluded, model.thresholds),
        sources=np.array([example.source or "" for example, _ in (*graded, *excluded)]),
        excluded_as_trained=None if lineage.trained_on is None else trained,
    )


def _grade(engine: Engine, batch: Sequence[tuple[Example, ModelInput]]) -> list[tuple[Example, Prediction]]:
    predictions = engine.predict([enhanced for _, enhanced in batch])
    return [(example, prediction) for (example, _), prediction in zip(batch, predictions, strict=True)]


def _to_labelled(
    graded: Sequence[tuple[Example, Prediction]],
    excluded: Sequence[tuple[Example, ExcludedImage]],
    thresholds: Sequence[float],
) -> Labelled:
    """Return the graded photographs, and the excluded ones with the status that a worker would give them."""
    examples = [example for example, _ in (*graded, *excluded)]
    probabilities = np.full((len(examples), 5), np.nan)
    grades = np.full(len(examples), NOT_GRADED, np.int64)
    for row, (_, prediction) in enumerate(graded):
        probabilities[row] = prediction.probabilities
        grades[row] = decode_outputs(prediction.probabilities, thresholds).grade
    statuses = [Status.GRADED] * len(graded) + [
        Status.UNGRADABLE if entry.ungradable else Status.FAILED for _, entry in excluded
    ]
    return Labelled(
        ids=np.array([example.image_id for example in examples]),
        eyes=np.full(len(examples), ""),
        patients=np.array([example.patient_id or "" for example in examples]),
        statuses=np.array([str(status) for status in statuses]),
        reference=np.array([NOT_GRADED if one.grade is None else int(one.grade) for one in examples], np.int64),
        grades=grades,
        probabilities=probabilities,
    )


def _is_in_training_set(pixels: str, lineage: Lineage) -> bool:
    return lineage.trained_on is not None and pixels[:HASH_DIGITS] in lineage.trained_on
