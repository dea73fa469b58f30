"""Grade the photographs of a fit with a teacher: a model whose probabilities the network learns with the grades.

Source: Hinton et al. 2015, arXiv 1503.02531.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import UsageError
from worker.core.predictions import ModelInput
from worker.core.settings import Settings
from worker.core.storage.atomic_write import write_atomically
from worker.model.engines.protocol import Engine
from worker.model.ordinal import OUTPUTS
from worker.training.dataset import DatasetIndex, ExcludedImage, prepare_examples
from worker.training.examples import Example

TEACHER_FILE = "teacher.npy"
BATCH = 16


def load_or_grade(
    examples: Sequence[Example],
    index: DatasetIndex,
    folder: Path,
    start_teacher: Callable[[], Engine],
    settings: Settings,
    on_progress: Callable[[], object],
) -> NDArray[np.float32]:
    """Return the teacher's probabilities of each image of the index, float32 (N, 5); NaN where it grades none.

    The teacher has its own recipe, for which the photographs are prepared again. Its probabilities are stored in
    `folder`; a fit that is resumed reads them. on_progress: called after each photograph. Raises UsageError for a
    stored file that is damaged or has another number of images.
    """
    file = folder / TEACHER_FILE
    if not file.exists():
        by_id = {example.image_id: example for example in examples}
        kept = [by_id[image_id] for image_id in index.image_ids]
        buffer = io.BytesIO()
        np.save(buffer, _grade(kept, start_teacher(), settings, on_progress), allow_pickle=False)
        write_atomically(file, buffer.getvalue())
    try:
        taught = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the teacher's probabilities in {file}: {error}") from error
    shape = len(index.image_ids), OUTPUTS
    if taught.shape != shape or taught.dtype != np.float32:
        raise UsageError(f"{file} is {taught.dtype} {taught.shape}, float32 {shape} is needed")
    return np.asarray(taught, np.float32)


def _grade(
    examples: Sequence[Example], teacher: Engine, settings: Settings, on_progress: Callable[[], object]
) -> NDArray[np.float32]:
    taught = np.full((len(examples), OUTPUTS), np.nan, np.float32)
    batch: list[tuple[int, ModelInput]] = []

    def predict() -> None:
        predictions = teacher.predict([image for _, image in batch])
        for (row, _), prediction in zip(batch, predictions, strict=True):
            taught[row] = prediction.probabilities
        batch.clear()

    model = teacher.bundle
    prepared = prepare_examples(examples, model.recipe, extra_recipes=model.extra_recipes, settings=settings)
    for row, (_, image) in enumerate(prepared):
        if not isinstance(image, ExcludedImage):
            batch.append((row, image.model_input))
        if len(batch) == BATCH:
            predict()
        on_progress()
    predict()
    return taught
