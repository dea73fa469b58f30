"""Fit the round border of a field to what is seen of it.

Many data sets hold photographs that were squashed to a square, so the border may be an upright ellipse.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.core.errors import Ungradable
from worker.imaging.ellipse_ransac import Array, distance, fit_ellipse_ransac
from worker.imaging.photograph import Ellipse

SEARCH_SIDE_PX = 640
"""The fit runs on a copy no larger than this, made smaller by a whole number, which is several times quicker."""
THRESHOLD_FACTORS = (1.0, 1.6, 2.56, 4.1)
"""Tried in turn until the fit is good: glow around the field is lit, too, in 3 % of APTOS."""
MIN_SUPPORT = 0.2
"""Worst of 3,529 photographs 0.30, the next 0.41; rectangles, triangles and clouds reach 0.09."""
GOOD_SUPPORT = 0.85
GOOD_VISIBLE = 0.3
"""A fit that has both ends the search; a field cut off at top and bottom and squashed shows a third of its border."""

_MIN_POINTS: Final = 30
_TOLERANCE = 0.01
_SECTORS = 90
_FRAME_PX = 3
_CIRCLE_BONUS = 1.1
_CLEAR_CIRCLE = 0.9


@dataclass(frozen=True, slots=True)
class _Fit:
    """(centre x, centre y, radius x, radius y); `support` is the share of edge points on the border times the share of
    the border within the picture that has them; `visible` is the share of the whole border that has them."""

    shape: Array
    support: float
    visible: float
    score: float


def fit_border(brightness: NDArray[np.uint8], threshold: int) -> Ellipse:
    """Border of the one large lit area of a picture, uint8 (H, W); lit is what is brighter than `threshold`.

    Edges on the picture's own frame and straight cuts are left out, so the border may reach past both. A circle unless
    an ellipse explains clearly more. Centre in pixel indices: 0 is the middle of the first pixel.
    Raises Ungradable(no_field) if no border has MIN_SUPPORT.
    """
    shrink = -(-max(brightness.shape) // SEARCH_SIDE_PX)
    if shrink > 1:
        height, width = (max(1, side // shrink) for side in brightness.shape)
        whole = brightness[: height * shrink, : width * shrink]
        brightness = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    best: _Fit | None = None
    for factor in THRESHOLD_FACTORS:
        points = _edge_points(brightness > threshold * factor)
        for fit in _fits(points, brightness.shape):
            if best is None or fit.score > best.score:
                best = fit
        if best is not None and best.support > GOOD_SUPPORT and best.visible > GOOD_VISIBLE:
            break
    if best is None or best.support < MIN_SUPPORT:
        found = 0.0 if best is None else best.support
        raise Ungradable(
            f"no round border: the best has a support of {found:.2f}, {MIN_SUPPORT} is needed", code="no_field"
        )
    x, y, radius_x, radius_y = (float(value) for value in best.shape)
    return Ellipse((x + 0.5) * shrink - 0.5, (y + 0.5) * shrink - 0.5, radius_x * shrink, radius_y * shrink)


def _edge_points(lit: NDArray[np.bool_]) -> Array:
    """First and last lit pixel of each row and column of the largest lit area, (N, 2) as x, y, frame left out."""
    # The median of 5 x 5, in a fifth of the time.
    votes = cv2.boxFilter(lit.view(np.uint8), -1, (5, 5), normalize=False, borderType=cv2.BORDER_REPLICATE)
    smooth = (votes > 12).view(np.uint8)
    # Outlines are found in a twentieth of the time of labelled areas.
    outlines, _ = cv2.findContours(smooth, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return np.empty((0, 2))
    x, y = max(outlines, key=cv2.contourArea)[:, 0].T
    height, width = lit.shape
    return np.vstack([_ends(y, x, height, width), _ends(x, y, width, height)[:, ::-1]])


def _ends(line: NDArray[np.int32], place: NDArray[np.int32], lines: int, length: int) -> Array:
    """Of an outline's points, the first and the last on each line, (N, 2) as place and line."""
    first, last = np.full(lines, length), np.full(lines, -1)
    np.minimum.at(first, line, place)
    np.maximum.at(last, line, place)
    starts = np.flatnonzero((first >= _FRAME_PX) & (first < length))
    stops = np.flatnonzero((last >= 0) & (last < length - _FRAME_PX))
    return np.vstack([np.column_stack([first[starts] - 0.5, starts]), np.column_stack([last[stops] + 0.5, stops])])


def _fits(points: Array, picture: tuple[int, ...]) -> list[_Fit]:
    """A circle and, unless that is clearly right, an upright ellipse; either may not be found."""
    if len(points) < _MIN_POINTS:
        return []
    tolerance = max(1.0, _TOLERANCE * max(picture) / 2)
    fits = []
    for round_only in (True, False):
        shape = fit_ellipse_ransac(points, picture, tolerance, round_only=round_only)
        if shape is None:
            continue
        near = distance(shape, points) < tolerance
        share = float(near.mean())
        covered, visible = _coverage(shape, points[near], picture)
        bonus = _CIRCLE_BONUS if round_only else 1.0
        fits.append(_Fit(shape, share * covered, visible, bonus * share * covered * visible**0.5))
        if round_only and share > _CLEAR_CIRCLE:
            break
    return fits


def _coverage(shape: Array, near: Array, picture: tuple[int, ...]) -> tuple[float, float]:
    """Share of the border's sectors that have a point, of those within the picture and of all."""
    x, y, radius_x, radius_y = shape
    angles = (np.arange(_SECTORS) + 0.5) * 2 * np.pi / _SECTORS
    across, down = x + radius_x * np.cos(angles), y + radius_y * np.sin(angles)
    inside = (
        (across >= _FRAME_PX)
        & (across < picture[1] - _FRAME_PX)
        & (down >= _FRAME_PX)
        & (down < picture[0] - _FRAME_PX)
    )
    turn = np.arctan2((near[:, 1] - y) / radius_y, (near[:, 0] - x) / radius_x) % (2 * np.pi)
    seen = np.zeros(_SECTORS, bool)
    seen[(turn * _SECTORS / (2 * np.pi)).astype(int) % _SECTORS] = True
    both = int((seen & inside).sum())
    return both / max(int(inside.sum()), 1), both / _SECTORS
