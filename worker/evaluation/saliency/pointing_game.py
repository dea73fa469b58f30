"""Do maps lie on lesions? The pointing game (Zhang et al. 2018, arXiv 1608.00507), and the share of a map's energy
that is on lesions (Wang et al. 2020, arXiv 1910.01279).

A place counts as on a lesion when it is no further from one than TOLERANCE of the field. The map is taken as the
overlay shows it, within the field; where several pixels are the brightest, the score is the share of them that are on
a lesion. Beside it: what a map would score that is brightest at the centre of
the field whatever the photograph, and one that is even.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from worker.core.vocabulary import Grade
from worker.evaluation.saliency.lesion_masks import AnnotatedPhotograph, enhance_for, read_annotated
from worker.model.decide_grade import decide_grade
from worker.model.engines.protocol import Engine

TOLERANCE = 15 / 512
"""Of the longer side of the field's box."""
CENTRE_SPREAD = 0.5
"""Standard deviation of the centre's map, in radii."""
BATCH = 16


@dataclass(frozen=True, slots=True)
class LesionAreas:
    """Of a photograph, all bool (H, W): what is `near` a lesion, `inside` the field, and `seen` by the model."""

    near: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    seen: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PointingScore:
    """One image of the game, each figure in [0, 1].

    hit: the share of the map's brightest pixels that are on a lesion. centre: 1 or 0. chance: the share of the field,
    and of an even map's energy. energy: of the map, within the field, on lesions. centre_energy: of a Gaussian about
    the field's centre. outside: of all the map's energy, beyond the field. outside_area: of the pixels that the model
    sees, beyond the field.
    """

    name: str
    grade: Grade
    hit: float
    centre: float
    chance: float
    energy: float
    centre_energy: float
    outside: float
    outside_area: float


def play_pointing_game(
    engine: Engine, folder: Path, *, on_warning: Callable[[str], object], on_progress: Callable[[], object]
) -> list[PointingScore]:
    """Score every photograph of a folder that has a lesion mask; `on_progress` is called after each.

    Raises and warns like `read_annotated`.
    """
    model, pointed = engine.bundle, []
    marked = read_annotated(folder, model, on_warning)
    while some := list(islice(marked, BATCH)):
        for one, prediction in zip(some, engine.predict([enhance_for(model, one) for one in some]), strict=True):
            grade = decide_grade(prediction, model).grade
            pointed.append(score_map(one, find_lesion_areas(one), prediction.saliency, grade))
            on_progress()
    return pointed


def find_lesion_areas(marked: AnnotatedPhotograph) -> LesionAreas:
    """What all maps of a photograph are judged on; of 12 megapixels it takes a second."""
    field = marked.field
    reach = TOLERANCE * max(field.bottom - field.top, field.right - field.left)
    near = np.asarray(distance_transform_edt(~marked.lesions) <= reach)
    return LesionAreas(near, marked.field_mask, marked.project_map(np.ones((1, 1), np.float32)) > 0)


def score_map(
    marked: AnnotatedPhotograph, ground: LesionAreas, saliency: NDArray[np.float32], grade: Grade
) -> PointingScore:
    """One image's game with a map (h, w). A map without evidence points nowhere, which is a miss."""
    border, near, inside = marked.field.border, ground.near, ground.inside
    laid = marked.project_map(saliency)
    y, x = np.ogrid[: near.shape[0], : near.shape[1]]
    squares = ((x - border.centre_x) / border.radius_x_px) ** 2 + ((y - border.centre_y) / border.radius_y_px) ** 2
    return PointingScore(
        marked.name,
        grade,
        hit=_share(near, find_brightest(laid, inside)),
        centre=_at(near, border.centre_x, border.centre_y),
        chance=_share(near, inside),
        energy=_energy(laid, inside & near, inside),
        centre_energy=_energy(np.exp(-squares / (2 * CENTRE_SPREAD**2)), inside & near, inside),
        outside=_energy(laid, ground.seen & ~inside, ground.seen),
        outside_area=_share(~inside, ground.seen),
    )


def find_brightest(laid: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where a map laid over the photograph is brightest in the field, bool (H, W).

    inside: the field, (H, W). Several pixels may be; none are where the map is empty.
    """
    shown = np.where(inside, laid, -1)
    most = float(shown.max())
    return np.asarray(shown >= most * (1 - 1e-6)) if most > 0 else np.zeros(inside.shape, bool)


def _energy(laid: NDArray[np.floating], part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    total = float(laid[whole].sum(dtype=np.float64))
    return float(laid[part].sum(dtype=np.float64)) / total if total > 0 else 0.0


def _share(near: NDArray[np.bool_], places: NDArray[np.bool_]) -> float:
    return float(near[places].mean()) if places.any() else 0.0


def _at(near: NDArray[np.bool_], x: float, y: float) -> float:
    row, column = (min(max(round(place), 0), size - 1) for place, size in zip((y, x), near.shape, strict=True))
    return float(near[row, column])
