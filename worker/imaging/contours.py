"""Contour lines of a saliency map: drawn into a picture, or as the path of a vector graphic."""

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

CONTOURS = (0.5, 0.8)
"""Shares of the model's scale at which a line is drawn."""
PATH_SIDE = 1000
"""Side of the square of coordinates of `trace_contours`."""
_PATH_TOLERANCE = 1.5
"""Greatest distance of a path from its line, in its coordinates."""

Pixels: TypeAlias = "NDArray[np.uint8]"


def draw_contours(image: Pixels, levels: Pixels, width_px: int) -> Pixels:
    """Return an image (h, w, 3) with the contour lines of levels (h, w), white with a black casing.

    A line is the border of the area above its level, which is five times as fast to find as to draw as a polygon.
    """
    lines = find_contours(levels, width_px)
    casing = cv2.cvtColor(cv2.dilate(lines, np.ones((3, 3), np.uint8)), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.bitwise_or(cv2.subtract(image, casing), cv2.cvtColor(lines, cv2.COLOR_GRAY2RGB)), np.uint8)


def find_contours(levels: Pixels, width_px: int) -> Pixels:
    """Return the contour lines as a mask, uint8 (h, w), 255 on a line."""
    brush = np.ones((width_px + 1, width_px + 1), np.uint8)
    areas = (cv2.threshold(levels, level * 255, 255, cv2.THRESH_BINARY)[1] for level in CONTOURS)
    outer, inner = (cv2.morphologyEx(area, cv2.MORPH_GRADIENT, brush) for area in areas)
    return np.asarray(cv2.bitwise_or(outer, inner), np.uint8)


def trace_contours(levels: Pixels) -> str:
    """Return the contour lines of levels (C, C) as the path data of an SVG with the view box 0 0 1000 1000."""
    scale, parts = PATH_SIDE / len(levels), []
    for level in CONTOURS:
        _, area = cv2.threshold(levels, level * 255, 255, cv2.THRESH_BINARY)
        for line in cv2.findContours(area, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]:
            corners = cv2.approxPolyDP(line, _PATH_TOLERANCE / scale, True)[:, 0]  # noqa: FBT003 - closed
            # The centre of pixel i is at i + 0.5.
            if len(corners) < 3:  # a spot without an area
                continue
            places = np.rint((corners + 0.5) * scale).astype(int)
            steps = " ".join(f"{x} {y}" for x, y in np.diff(places, axis=0).tolist())
            # Relative and without a blank before a sign: half as long.
            parts.append(f"M{places[0, 0]} {places[0, 1]}l{steps.replace(' -', '-')}z")
    return "".join(parts)
