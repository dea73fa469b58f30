"""The pointing game: does the maximum of a map lie on a lesion? (Zhang et al. 2016, arXiv 1608.00507)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.image import imread
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.stats import binomtest

from worker.contract.errors import SourceError, Ungradable
from worker.contract.vocabulary import Grade
from worker.evaluation.intervals import LEVEL, Figure
from worker.items import Photograph
from worker.model.recipe import Recipe
from worker.steps.field import find_field

LESIONS = 0b1111
"""Bits of a mask that are lesions: microaneurysms, haemorrhages, hard and soft exudates. 16 is the optic disc."""
TOLERANCE = 15 / 512
"""How far from a lesion still counts, of the field's side: half a cell of a 7 x 7 map is 37 / 512."""
GRID = 512
MASK_SUFFIX = "_lesions.png"

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Annotated:
    """A photograph with its lesions: `mask` bool (GRID, GRID), true where the maximum may lie, on the model's crop."""

    path: Path
    mask: Mask


@dataclass(frozen=True, slots=True)
class Pointing:
    """Share of maps that hit, with its interval: all, by the grade that is explained, and what needs no model.

    `by_grade`: number of maps and share. `centre`: the crop's middle each time. `chance`: a place in the crop at
    random.
    """

    images: int
    hits: int
    share: Figure
    by_grade: dict[int, tuple[int, Figure]]
    centre: float
    chance: float


def read_annotated(folder: Path, recipe: Recipe) -> list[Annotated]:
    """The photographs `NAME.jpg` of a folder that have masks `NAME_lesions.png`, one byte a pixel, with a lesion in it.

    Raises SourceError for a mask that cannot be read, has no photograph or another size, or where there is none.
    """
    found = []
    for path in sorted(folder.glob(f"*{MASK_SUFFIX}")):
        photograph = path.with_name(path.name.removesuffix(MASK_SUFFIX) + ".jpg")
        try:
            rgb, bits = np.array(imread(photograph)), np.rint(np.array(imread(path)) * 255).astype(np.uint8)
        except (OSError, ValueError, SyntaxError) as error:
            raise SourceError(f"cannot read {photograph} with {path.name}: {error}") from error
        if bits.shape != rgb.shape[:2]:
            raise SourceError(f"{path} is {bits.shape}, its photograph {rgb.shape[:2]}")
        try:
            field = find_field(Photograph(rgb), recipe)
        except Ungradable as error:
            raise SourceError(f"{photograph}: {error.detail}") from error
        crop = (bits & LESIONS > 0)[field.top : field.bottom, field.left : field.right]
        if crop.any():
            found.append(Annotated(photograph, _widen(crop)))
    if not found:
        raise SourceError(f"{folder} has no photograph NAME.jpg with a mask NAME{MASK_SUFFIX}")
    return found


def play(annotated: Sequence[Annotated], saliency: Sequence[NDArray[np.float32]], grades: Sequence[Grade]) -> Pointing:
    """saliency: (h, w) of each photograph; one that is zero everywhere points at nothing and misses."""
    hits = [bool(each.any()) and _hits(a.mask, find_maximum(each)) for a, each in zip(annotated, saliency, strict=True)]
    by_grade = {}
    for grade in Grade:
        of_grade = [hit for hit, explained in zip(hits, grades, strict=True) if explained == grade]
        if of_grade:
            by_grade[int(grade)] = (len(of_grade), _share(of_grade))
    return Pointing(
        images=len(hits),
        hits=sum(hits),
        share=_share(hits),
        by_grade=by_grade,
        centre=float(np.mean([_hits(a.mask, (GRID / 2, GRID / 2)) for a in annotated])),
        chance=float(np.mean([a.mask.mean() for a in annotated])),
    )


def find_maximum(saliency: NDArray[np.float32]) -> tuple[float, float]:
    """Middle of the map's highest cell, (row, column) on the grid; the first of equals."""
    row, column = np.unravel_index(int(saliency.argmax()), saliency.shape)
    return (float(row) + 0.5) * GRID / saliency.shape[0], (float(column) + 0.5) * GRID / saliency.shape[1]


def _hits(mask: Mask, place: tuple[float, float]) -> bool:
    return bool(mask[int(place[0]), int(place[1])])


def _widen(crop: Mask) -> Mask:
    """On the grid, every lesion wider by the tolerance."""
    rows, columns = (((np.arange(GRID) + 0.5) * side / GRID).astype(int) for side in crop.shape)
    distances: Callable[[Mask], NDArray[np.float64]] = distance_transform_edt
    # Lesions smaller than a step of the grid must not fall through it.
    near = distances(~crop)[np.ix_(rows, columns)] * GRID / np.sqrt(crop.shape[0] * crop.shape[1])
    return np.asarray(near <= TOLERANCE * GRID)


def _share(hits: Sequence[bool]) -> Figure:
    interval = binomtest(sum(hits), len(hits)).proportion_ci(LEVEL, method="wilson")
    return Figure(sum(hits) / len(hits), float(interval.low), float(interval.high))
