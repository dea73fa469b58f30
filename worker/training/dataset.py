"""Prepare the photographs of a fit once, in the worker's own decoding processes, and keep them as bytes."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from worker.core.errors import ImageError, SourceError, Ungradable, UsageError
from worker.core.settings import Settings
from worker.core.storage.atomic_write import write_atomically
from worker.imaging.photograph import PreparedImage
from worker.imaging.recipe import Recipe
from worker.imaging.sandbox.pool import DecoderPool
from worker.training.examples import Example

HASH_CANVAS_PX = 512
"""Pixels are compared on the field at this size, whatever the model's."""
INDEX_FILE, PIXELS_FILE = "pictures.json", "pictures.npy"
READ_AHEAD = 64
"""Photographs that are read while others are decoded."""


class ExcludedImage(BaseModel):
    """A photograph that no worker would have graded, and why; it is not learnt from."""

    model_config = ConfigDict(frozen=True)

    image_id: str
    ungradable: bool
    """Else it failed: it is no sound picture."""
    code: str
    detail: str


class DatasetIndex(BaseModel):
    """What is known of the prepared pictures, in their order; `left_out` are not among them."""

    model_config = ConfigDict(frozen=True)

    recipe: Recipe
    manifest_sha256: str
    image_ids: list[str]
    grades: list[int]
    patients: list[str | None]
    pixel_hashes: list[str]
    left_out: list[ExcludedImage]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Enhanced pictures uint8 (N, S, S, 3), mapped from the file, and their index."""

    enhanced: NDArray[np.uint8]
    index: DatasetIndex

    @property
    def grades(self) -> NDArray[np.int64]:
        """ImageReference grades, int (N,)."""
        return np.array(self.index.grades, np.int64)


def prepare_dataset(
    examples: Sequence[Example],
    folder: Path,
    *,
    recipe: Recipe,
    manifest_sha256: str,
    settings: Settings,
    on_progress: Callable[[int], object],
) -> Dataset:
    """All examples through the worker's steps, kept in `folder`.

    `on_progress` is called after each example with the number left out so far.
    What a worker would fail or find ungradable is left out and listed. Raises SourceError where nothing remains.
    """
    size_px = recipe.input_size_px
    part = folder / f"{PIXELS_FILE}.part"
    shape = (len(examples), size_px, size_px, 3)
    pixels = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
    kept: list[Example] = []
    hashes: list[str] = []
    left_out: list[ExcludedImage] = []
    for example, prepared in prepare_examples(examples, recipe, settings=settings):
        if isinstance(prepared, ExcludedImage):
            left_out.append(prepared)
        else:
            pixels[len(kept)] = prepared.enhanced
            kept.append(example)
            hashes.append(hash_pixels(prepared))
        on_progress(len(left_out))
    pixels.flush()
    del pixels
    if not kept:
        raise SourceError(f"no photograph can be learnt from; the first: {left_out[0].code}, {left_out[0].detail}")
    index = DatasetIndex(
        recipe=recipe,
        manifest_sha256=manifest_sha256,
        image_ids=[example.image_id for example in kept],
        grades=[int(example.grade) for example in kept],
        patients=[example.patient_id for example in kept],
        pixel_hashes=hashes,
        left_out=left_out,
    )
    part.rename(folder / PIXELS_FILE)
    write_atomically(folder / INDEX_FILE, index.model_dump_json().encode())
    return read_dataset(folder)


def prepare_examples(
    examples: Sequence[Example], recipe: Recipe, *, extra_recipes: Sequence[Recipe] = (), settings: Settings
) -> Iterator[tuple[Example, PreparedImage | ExcludedImage]]:
    """Each example as the worker would show it to a model of these recipes, or why it would not."""
    pool = DecoderPool(
        recipe, settings.model_copy(update={"overlay_size_px": HASH_CANVAS_PX}), extra_recipes=extra_recipes
    )
    try:
        for start in range(0, len(examples), READ_AHEAD):
            some = examples[start : start + READ_AHEAD]
            waiting = [pool.submit(_read(example, settings.max_image_bytes)) for example in some]
            for example, future in zip(some, waiting, strict=True):
                try:
                    yield example, future.result()
                except (ImageError, Ungradable) as error:
                    yield example, _describe_exclusion(example, error)
    finally:
        pool.close()


def hash_pixels(prepared: PreparedImage) -> str:
    """SHA-256 of the field, whatever the model's recipe makes of it."""
    return hashlib.sha256(prepared.canvas.tobytes()).hexdigest()


def read_dataset(folder: Path) -> Dataset:
    """What `prepare_pictures` kept. Raises UsageError when it is not whole."""
    try:
        index = DatasetIndex.model_validate_json((folder / INDEX_FILE).read_bytes())
        mapped = np.load(folder / PIXELS_FILE, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder} holds no prepared pictures: {error}") from error
    return Dataset(mapped[: len(index.image_ids)], index)


def _read(example: Example, limit_bytes: int) -> bytes:
    try:
        with example.path.open("rb") as file:
            # One byte more than may be: the step that refuses it says so.
            return file.read(limit_bytes + 1)
    except OSError as error:
        raise SourceError(f"cannot read {example.path}: {error.strerror or error}") from error


def _describe_exclusion(example: Example, error: ImageError | Ungradable) -> ExcludedImage:
    ungradable = isinstance(error, Ungradable)
    return ExcludedImage(image_id=example.image_id, ungradable=ungradable, code=error.code, detail=error.detail)
