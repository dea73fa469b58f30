"""Grade a manifest with a bundle, and tell which of its photographs the bundle has never learnt from."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.contract.errors import UsageError
from worker.contract.settings import Settings
from worker.contract.vocabulary import Status
from worker.evaluation.document import Evaluation, evaluate
from worker.evaluation.labelled import NOT_GRADED, Labelled, Run
from worker.items import Prediction
from worker.model.engine import Engine
from worker.model.ordinal import decode_outputs
from worker.training.ancestry import Ancestry
from worker.training.examples import Example, hash_file, read_examples
from worker.training.pictures import Pictures, prepare_pictures
from worker.training.split import HASH_DIGITS

BATCH = 16


@dataclass(frozen=True, slots=True)
class Judged:
    """What a bundle made of one set of photographs.

    `learnt_from`: how many of the manifest were left out since the bundle has learnt from their pixels; None where
    nobody wrote down what it learnt from, and none could be left out.
    """

    name: str
    manifest_sha256: str
    learnt_from: int | None
    images: Labelled
    evaluation: Evaluation


def judge_manifest(
    name: str,
    manifest: Path,
    engine: Engine,
    ancestry: Ancestry,
    settings: Settings,
    *,
    remark: Callable[[str], None],
    step: Callable[[], object],
) -> Judged:
    """Everything in the manifest that has a reference grade and that the bundle has never learnt from.

    Raises SourceError as `fundus enqueue` does for the same manifest, UsageError where nothing remains.
    """
    examples = read_examples(manifest, settings, remark)
    sha256 = hash_file(manifest)
    recipe = engine.bundle.recipe
    with tempfile.TemporaryDirectory(prefix="fundus-card-") as folder:
        pictures = prepare_pictures(
            examples, Path(folder), recipe=recipe, manifest_sha256=sha256, settings=settings, step=lambda _: step()
        )
        new = np.array([not _is_known(pixels, ancestry) for pixels in pictures.index.pixel_hashes], bool)
        if not new.any():
            raise UsageError(f"{manifest}: the bundle has learnt from all of its {len(new):,} photographs")
        predictions = predict_all(engine, pictures.enhanced[new], step)
    images = _label(examples, pictures, new, predictions, engine.bundle.thresholds)
    bundle = engine.bundle
    run = Run(0, name, "finished", bundle.model_id, bundle.name, {})
    return Judged(
        name=name,
        manifest_sha256=sha256,
        learnt_from=None if ancestry.trained_on is None else int((~new).sum()),
        images=images,
        evaluation=evaluate(run, images, {}, resamples=1000, seed=0, step=lambda: None),
    )


def predict_all(engine: Engine, enhanced: NDArray[np.uint8], step: Callable[[], object]) -> list[Prediction]:
    """A prediction for each picture, uint8 (N, S, S, 3)."""
    predictions: list[Prediction] = []
    for start in range(0, len(enhanced), BATCH):
        predictions += engine.predict(list(enhanced[start : start + BATCH]))
        step()
    return predictions


def _label(
    examples: Sequence[Example],
    pictures: Pictures,
    new: NDArray[np.bool_],
    predictions: Sequence[Prediction],
    thresholds: Sequence[float],
) -> Labelled:
    """The new pictures as graded, and those that no worker would have graded as what they would have become."""
    index, of_image = pictures.index, {example.image_id: example for example in examples}
    ids = [image_id for image_id, is_new in zip(index.image_ids, new.tolist(), strict=True) if is_new]
    refused = index.left_out
    probabilities = np.full((len(ids) + len(refused), 5), np.nan)
    grades = np.full(len(probabilities), NOT_GRADED, np.int64)
    for row, prediction in enumerate(predictions):
        probabilities[row] = prediction.probabilities
        grades[row] = decode_outputs(prediction.probabilities, thresholds).grade
    statuses = [Status.GRADED] * len(ids) + [
        Status.UNGRADABLE if entry.ungradable else Status.FAILED for entry in refused
    ]
    everyone = [of_image[image_id] for image_id in (*ids, *(entry.image_id for entry in refused))]
    return Labelled(
        ids=np.array([example.image_id for example in everyone]),
        eyes=np.full(len(everyone), ""),
        patients=np.array([example.patient_id or "" for example in everyone]),
        statuses=np.array([str(status) for status in statuses]),
        reference=np.array([int(example.grade) for example in everyone], np.int64),
        grades=grades,
        probabilities=probabilities,
    )


def _is_known(pixels: str, ancestry: Ancestry) -> bool:
    return ancestry.trained_on is not None and pixels[:HASH_DIGITS] in ancestry.trained_on
