"""The pointing game: does the brightest place of a map lie on a lesion? (Zhang et al. 2018, arXiv 1608.00507)

A place counts as on a lesion when it is no further from one than TOLERANCE of the field. The map is taken as the
overlay shows it, within the field; where several pixels are the brightest, which is the rule at the map's edge, the
score is the share of them that are on a lesion. Beside it: what the centre of the field scores, and a place drawn at
random from it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.image
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from worker.contract.errors import Ungradable, UsageError
from worker.contract.vocabulary import Grade
from worker.items import Decision, Enhanced, Field, Photograph, Prediction
from worker.model.engine import Engine
from worker.model.ensemble_bundle import Model
from worker.model.evidence import enlarge
from worker.steps.enhance import enhance
from worker.steps.field import find_field
from worker.steps.grade import decide_grade

LESIONS = 1 | 2 | 4 | 8
"""Bits of a mask: microaneurysms, haemorrhages, hard exudates, soft exudates; 16 is the optic disc."""
TOLERANCE = 15 / 512
"""Of the longer side of the field's box."""
MASK_ENDING = "_lesions.png"
BATCH = 16


@dataclass(frozen=True, slots=True)
class Marked:
    """A photograph with its lesions: `lesions` bool (H, W), of the photograph's size."""

    name: str
    photograph: Photograph
    field: Field
    lesions: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Pointed:
    """One image of the game, each figure in [0, 1].

    hit: the share of the map's brightest pixels that are on a lesion. centre: 1 or 0. chance: the share of the field.
    """

    name: str
    grade: Grade
    hit: float
    centre: float
    chance: float


def play(engine: Engine, folder: Path, *, remark: Callable[[str], object], step: Callable[[], object]) -> list[Pointed]:
    """All photographs of a folder that have a mask with a lesion beside them (`NAME.jpg`, `NAME_lesions.png`).

    A photograph that cannot be judged is left out, with a remark. `step` is called after each image.
    The folder is one's own: its pictures are read in this process. Raises UsageError where there is no mask, one
    does not fit its photograph, or none is left.
    """
    pointed: list[Pointed] = []
    waiting: list[Marked] = []
    masks = sorted(folder.glob(f"*{MASK_ENDING}"))
    if not masks:
        raise UsageError(f"no {MASK_ENDING} in {folder}")
    for mask in masks:
        try:
            marked = _read(mask, engine.bundle)
        except Ungradable as error:
            remark(f"{mask.name} is left out: {error.detail}")
            continue
        if not marked.lesions.any():
            remark(f"{mask.name} is left out: it marks no lesion")
            continue
        waiting.append(marked)
        if len(waiting) == BATCH:
            pointed += _point(engine, waiting, step)
            waiting = []
    pointed += _point(engine, waiting, step) if waiting else []
    if not pointed:
        raise UsageError(f"no photograph of {folder} can be judged")
    return pointed


def judge(marked: Marked, prediction: Prediction, decision: Decision) -> Pointed:
    """One image's game. A map without evidence points nowhere, which is a miss."""
    field = marked.field
    reach = TOLERANCE * max(field.bottom - field.top, field.right - field.left)
    near = distance_transform_edt(~marked.lesions) <= reach
    inside = _within(field, near.shape)
    return Pointed(
        marked.name,
        decision.grade,
        hit=_share(near, find_brightest(prediction.saliency, field, inside)),
        centre=_at(near, field.border.centre_x, field.border.centre_y),
        chance=_share(near, inside),
    )


def find_brightest(saliency: NDArray[np.float32], field: Field, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where the map (h, w) is brightest in the field, bool (H, W): enlarged over the box as in the overlay.

    inside: the field, (H, W). Several pixels may be; those of a cell at the map's edge reach to the edge. None are
    where the map is empty.
    """
    brightest = np.zeros(inside.shape, bool)
    if saliency.any():
        box = (slice(field.top, field.bottom), slice(field.left, field.right))
        size = (field.bottom - field.top, field.right - field.left)
        shown = np.where(inside[box], enlarge(saliency[None, None], *size)[0, 0], -1)
        brightest[box] = shown >= shown.max() * (1 - 1e-6)
    return brightest


def _within(field: Field, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Pixels within both the border and the box."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    border = field.border
    across, down = (x - border.centre_x) / border.radius_x_px, (y - border.centre_y) / border.radius_y_px
    inside = np.asarray(across**2 + down**2 <= 1)
    inside[: field.top] = inside[field.bottom :] = inside[:, : field.left] = inside[:, field.right :] = False
    return inside


def _share(near: NDArray[np.bool_], places: NDArray[np.bool_]) -> float:
    return float(near[places].mean()) if places.any() else 0.0


def _at(near: NDArray[np.bool_], x: float, y: float) -> float:
    row, column = (min(max(round(place), 0), size - 1) for place, size in zip((y, x), near.shape, strict=True))
    return float(near[row, column])


def _read(mask: Path, model: Model) -> Marked:
    name = mask.name.removesuffix(MASK_ENDING)
    photographs = [path for path in mask.parent.glob(f"{name}.*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"}]
    if len(photographs) != 1:
        raise UsageError(f"{mask} has {len(photographs)} photographs named {name} beside it, one is needed")
    bits, rgb = _read_bytes(mask), _read_bytes(photographs[0])
    if bits.ndim != 2 or rgb.shape != (*bits.shape, 3):
        raise UsageError(f"{mask} is {bits.shape}, its photograph {rgb.shape}; (H, W) and (H, W, 3) are needed")
    photograph = Photograph(rgb)
    return Marked(name, photograph, find_field(photograph, model.recipe), bits & LESIONS != 0)


def _read_bytes(path: Path) -> NDArray[np.uint8]:
    try:
        pixels = matplotlib.image.imread(path)
    except (OSError, SyntaxError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    # Of a PNG the reader gives fractions of 255.
    return np.asarray(pixels if pixels.dtype == np.uint8 else np.rint(pixels * 255), np.uint8)


def _point(engine: Engine, marked: Sequence[Marked], step: Callable[[], object]) -> list[Pointed]:
    model = engine.bundle
    predictions = engine.predict([_enhance(one, model) for one in marked])
    pointed = []
    for one, prediction in zip(marked, predictions, strict=True):
        pointed.append(judge(one, prediction, decide_grade(prediction, model.thresholds)))
        step()
    return pointed


def _enhance(marked: Marked, model: Model) -> Enhanced:
    pictures = tuple(enhance(marked.photograph, marked.field, one) for one in (model.recipe, *model.further_recipes))
    return pictures if len(pictures) > 1 else pictures[0]
