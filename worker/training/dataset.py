"""Prepare the photographs of a fit once, in the worker's decoding processes, and store the enhanced images."""

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
"""Size of the field whose pixels are hashed; independent of the model's input size."""
INDEX_FILE, PIXELS_FILE = "pictures.json", "pictures.npy"
UNGRADED = -1
"""Stands for no reference grade in arrays."""
READ_AHEAD = 64
"""Number of photographs submitted to the decoding processes at once."""


class ExcludedImage(BaseModel):
    """A photograph that a worker would not grade, with the reason; it is not trained on."""

    model_config = ConfigDict(frozen=True)

    image_id: str
    ungradable: bool
    """True if the photograph is ungradable, False if it is invalid."""
    code: str
    detail: str


class DatasetIndex(BaseModel):
    """Metadata of the prepared images in the order of the pixel array; `left_out` lists the excluded ones."""

    model_config = ConfigDict(frozen=True)

    recipe: Recipe
    manifest_sha256: str
    image_ids: list[str]
    grades: list[int | None]
    """Reference grades; None without one."""
    patients: list[str | None]
    pixel_hashes: list[str]
    sources: list[str | None]
    left_out: list[ExcludedImage]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Enhanced images, uint8 (N, S, S, 3) RGB memory-mapped from the file, and their index."""

    enhanced: NDArray[np.uint8]
    index: DatasetIndex

    @property
    def grades(self) -> NDArray[np.int64]:
        """Reference grades, int64 (N,); UNGRADED without one."""
        return np.array([UNGRADED if grade is None else grade for grade in self.index.grades], np.int64)

    @property
    def sources(self) -> NDArray[np.str_]:
        """Sites or cameras, str (N,); an unknown one is empty."""
        return np.array([source or "" for source in self.index.sources])


def prepare_dataset(
    examples: Sequence[Example],
    folder: Path,
    *,
    recipe: Recipe,
    manifest_sha256: str,
    settings: Settings,
    on_progress: Callable[[int], object],
) -> Dataset:
    """Prepare all examples with the worker's steps and store them in `folder`.

    Invalid and ungradable photographs are excluded and listed. on_progress: called after each photograph with the
    number excluded so far. Raises SourceError if no photograph remains.
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
        raise SourceError(
            f"all {len(left_out):,} photographs are excluded; first: {left_out[0].code}, {left_out[0].detail}"
        )
    index = DatasetIndex(
        recipe=recipe,
        manifest_sha256=manifest_sha256,
        image_ids=[example.image_id for example in kept],
        grades=[None if example.grade is None else int(example.grade) for example in kept],
        patients=[example.patient_id for example in kept],
        pixel_hashes=hashes,
        sources=[example.source for example in kept],
        left_out=left_out,
    )
    part.rename(folder / PIXELS_FILE)
    write_atomically(folder / INDEX_FILE, index.model_dump_json().encode())
    return read_dataset(folder)


def prepare_examples(
    examples: Sequence[Example], recipe: Recipe, *, extra_recipes: Sequence[Recipe] = (), settings: Settings
) -> Iterator[tuple[Example, PreparedImage | ExcludedImage]]:
    """Yield each example, prepared for models with these recipes, or the reason for its exclusion."""
    pool = DecoderPool(
        recipe, settings.model_copy(update={"overlay_size_px": HASH_CANVAS_PX}), extra_recipes=extra_recipes
    )
    try:
        for start in range(0, len(examples), READ_AHEAD):
            chunk = examples[start : start + READ_AHEAD]
            futures = [pool.submit(_read(example, settings.max_image_bytes)) for example in chunk]
            for example, future in zip(chunk, futures, strict=True):
                try:
                    yield example, future.result()
                except (ImageError, Ungradable) as error:
                    yield example, _describe_exclusion(example, error)
    finally:
        pool.close()


def hash_pixels(prepared: PreparedImage) -> str:
    """Return the SHA-256 of the field's pixels before enhancement; it does not depend on the model."""
    return hashlib.sha256(prepared.canvas.tobytes()).hexdigest()


def read_dataset(folder: Path) -> Dataset:
    """Load the dataset that `prepare_dataset` stored. Raises UsageError if a file is missing or damaged."""
    try:
        index = DatasetIndex.model_validate_json((folder / INDEX_FILE).read_bytes())
        mapped = np.load(folder / PIXELS_FILE, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the prepared images in {folder}: {error}") from error
    return Dataset(mapped[: len(index.image_ids)], index)


def _read(example: Example, limit_bytes: int) -> bytes:
    try:
        with example.path.open("rb") as file:
            # One byte above the limit, so that decoding reports the file as too large.
            return file.read(limit_bytes + 1)
    except OSError as error:
        raise SourceError(f"cannot read {example.path}: {error.strerror or error}") from error


def _describe_exclusion(example: Example, error: ImageError | Ungradable) -> ExcludedImage:
    ungradable = isinstance(error, Ungradable)
    return ExcludedImage(image_id=example.image_id, ungradable=ungradable, code=error.code, detail=error.detail)
