"""Pointing game (Zhang et al. 2018, arXiv 1608.00507) and energy on lesions (Wang et al. 2020, arXiv 1910.01279).

A pixel counts as on a lesion within TOLERANCE of one. The map is enlarged as in the overlay and taken within the field.
If several pixels share the maximum, the score is the share of them on a lesion. Baselines: a map with its maximum at
the centre of the field, and a uniform map.
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
"""Tolerance as a fraction of the longer side of the field's bounding box."""
CENTRE_SPREAD = 0.5
"""Standard deviation of the Gaussian at the centre, as a fraction of the radius."""
BATCH = 16


@dataclass(frozen=True, slots=True)
class LesionAreas:
    """Masks of a photograph, bool (H, W): pixels on a lesion, in the field, and in the model's input."""

    on_lesion: NDArray[np.bool_]
    in_field: NDArray[np.bool_]
    in_input: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PointingScore:
    """Scores of one image, each in [0, 1].

    hit: share of the map's maximum pixels that are on a lesion. centre: 1 if the field's centre is on a lesion, else 0.
    chance: share of the field that is on lesions. energy: share of the map's energy in the field that is on lesions.
    centre_energy: the same of a Gaussian at the field's centre. outside: share of the map's energy outside the field.
    outside_area: share of the model's input outside the field.
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
    model, scores = engine.bundle, []
    photographs = read_annotated(folder, model, on_warning)
    while batch := list(islice(photographs, BATCH)):
        predictions = engine.predict([enhance_for(model, photograph) for photograph in batch])
        for photograph, prediction in zip(batch, predictions, strict=True):
            grade = decide_grade(prediction, model).grade
            scores.append(score_map(photograph, find_lesion_areas(photograph), prediction.saliency, grade))
            on_progress()
    return scores


def find_lesion_areas(photograph: AnnotatedPhotograph) -> LesionAreas:
    """Compute the masks that all maps of a photograph are scored with; a second for 12 megapixels."""
    field = photograph.field
    reach = TOLERANCE * max(field.bottom - field.top, field.right - field.left)
    on_lesion = np.asarray(distance_transform_edt(~photograph.lesions) <= reach)
    return LesionAreas(on_lesion, photograph.field_mask, photograph.project_map(np.ones((1, 1), np.float32)) > 0)


def score_map(
    photograph: AnnotatedPhotograph, areas: LesionAreas, saliency: NDArray[np.float32], grade: Grade
) -> PointingScore:
    """Score a map (h, w) of one photograph. An empty map has no maximum, which is a miss."""
    border, on_lesion, in_field = photograph.field.border, areas.on_lesion, areas.in_field
    projected = photograph.project_map(saliency)
    y, x = np.ogrid[: on_lesion.shape[0], : on_lesion.shape[1]]
    squares = ((x - border.centre_x) / border.radius_x_px) ** 2 + ((y - border.centre_y) / border.radius_y_px) ** 2
    return PointingScore(
        photograph.name,
        grade,
        hit=_share(on_lesion, find_brightest(projected, in_field)),
        centre=_at(on_lesion, border.centre_x, border.centre_y),
        chance=_share(on_lesion, in_field),
        energy=_energy(projected, in_field & on_lesion, in_field),
        centre_energy=_energy(np.exp(-squares / (2 * CENTRE_SPREAD**2)), in_field & on_lesion, in_field),
        outside=_energy(projected, areas.in_input & ~in_field, areas.in_input),
        outside_area=_share(~in_field, areas.in_input),
    )


def find_brightest(projected: NDArray[np.float32], in_field: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels with the maximum of a map in the field, bool (H, W); none for an empty map.

    projected: the map in photograph pixels, (H, W). in_field: bool (H, W).
    """
    shown = np.where(in_field, projected, -1)
    most = float(shown.max())
    return np.asarray(shown >= most * (1 - 1e-6)) if most > 0 else np.zeros(in_field.shape, bool)


def _energy(projected: NDArray[np.floating], part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    total = float(projected[whole].sum(dtype=np.float64))
    return float(projected[part].sum(dtype=np.float64)) / total if total > 0 else 0.0


def _share(on_lesion: NDArray[np.bool_], places: NDArray[np.bool_]) -> float:
    return float(on_lesion[places].mean()) if places.any() else 0.0


def _at(on_lesion: NDArray[np.bool_], x: float, y: float) -> float:
    row, column = (min(max(round(place), 0), size - 1) for place, size in zip((y, x), on_lesion.shape, strict=True))
    return float(on_lesion[row, column])
