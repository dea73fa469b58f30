"""How much of each cell of a saliency map is on lesions and in the field, once the map is enlarged."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from worker.evaluation.saliency.lesion_masks import AnnotatedPhotograph
from worker.evaluation.saliency.pointing_game import find_lesion_areas
from worker.imaging.upsample import upsample_cubic

CANVAS_PX = 320
"""Side of the enlarged map in which areas are measured; maps have 7 to 16 cells a side."""


def measure_cells(photograph: AnnotatedPhotograph, cells: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the enlarged map's energy on lesions and in the field by cell of a map (cells, cells), each (cells ** 2,).

    The energy of a map m >= 0 on lesions is then about m.ravel() @ on_lesions, and in the field m.ravel() @ in_field.
    """
    areas = find_lesion_areas(photograph)
    enlarged = _enlarged_cells(cells)
    on_lesions = enlarged @ _to_canvas(photograph, areas.on_lesion & areas.in_field)
    return on_lesions, enlarged @ _to_canvas(photograph, areas.in_field)


@lru_cache
def _enlarged_cells(cells: int) -> NDArray[np.float32]:
    """Return each cell of a map, enlarged without its negative lobes: (cells ** 2, CANVAS_PX ** 2)."""
    units = np.eye(cells**2, dtype=np.float32).reshape(-1, cells, cells)
    return np.stack([np.maximum(upsample_cubic(unit, CANVAS_PX, CANVAS_PX), 0).ravel() for unit in units])


def _to_canvas(photograph: AnnotatedPhotograph, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the share of each canvas pixel in a mask (H, W): (CANVAS_PX ** 2,), 0 outside the photograph."""
    top, bottom, left, right = photograph.window
    window = np.zeros((bottom - top, right - left), np.float32)
    part = mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    y, x = max(top, 0) - top, max(left, 0) - left
    window[y : y + part.shape[0], x : x + part.shape[1]] = part
    return np.asarray((_shares(bottom - top) @ window @ _shares(right - left).T).ravel(), np.float32)


def _shares(size: int) -> NDArray[np.float32]:
    """Return the share of each canvas pixel that lies on each of `size` pixels, (CANVAS_PX, size)."""
    edges = np.linspace(0, size, CANVAS_PX + 1)
    starts = np.arange(size)
    overlaps = np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)
    return np.asarray(np.maximum(overlaps, 0) * (CANVAS_PX / size), np.float32)
