"""Refuse photographs in which nobody could grade the retina, and pictures of something else.

The limits lie beyond the worst of nearly all photographs that experts did grade (APTOS and IDRiD), so that what is
refused is hopeless and not merely poor; `python -m tests.benchmarks.gradability FOLDER` shows on any photographs how
many are refused, and how many of those that are ruined on purpose. Measured on the field's box at 224 x 224 pixels.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.core.errors import Ungradable
from worker.imaging.photograph import Field, Photograph
from worker.imaging.resize_cache import resize_crop

_SIZE_PX = 224
_LARGE = 3
"""Sides of a large box in `_SIZE_PX`."""
_INNER = 0.9
"""The rim is left out: its own edge would pass for detail."""
_SATURATED = 250
_BACKGROUND_SIGMA_PX = _SIZE_PX / 30
_DETAIL_SIGMA_PX = 2.0
_EDGE_SIGMA_PX = 1.0
_EDGE = 7.5
"""Grey levels from one pixel to the next; a vessel has less."""
_EVERY = 4
"""Colours change slowly: a fourth of the pixels tells as much."""


@dataclass(frozen=True, slots=True)
class QualityMeasures:
    """What the limits are held against.

    visible: share of the whole round field that the picture shows. brightness: median of the brightest channel, 0 to
    255. saturated: share of the field whose green channel, which shows the lesions, is at its end. reddish: share that
    is redder than green. colour_spread: how far 90% of the field stay from its usual colour, as a sum of the
    differences of red, green and blue, each a share of their sum. edges: share with steps as only man-made things and
    landscapes have. contrast: of green less its background, in grey levels: what a normal distribution with the same
    middle 80% would have as its standard deviation. detail: root mean square slope of what is finer than 2 pixels,
    across the direction in which there is least, so that an image smeared in one direction has none.
    """

    visible: float
    brightness: float
    saturated: float
    reddish: float
    colour_spread: float
    edges: float
    contrast: float
    detail: float


@dataclass(frozen=True, slots=True)
class GradabilityLimit:
    """What one measure must keep: a share or grey levels, not below a minimum or not above a maximum."""

    measure: str
    code: str
    words: str
    bound: float
    is_minimum: bool = True

    def complain(self, value: float) -> str | None:
        """A sentence with the figure, where the limit is not kept."""
        if (value < self.bound) if self.is_minimum else (value > self.bound):
            asked = f"{self.bound:g} is needed" if self.is_minimum else f"limit {self.bound:g}"
            return f"{self.words} {value:.3g}, {asked}"
        return None


GRADABILITY_LIMITS = (
    GradabilityLimit("visible", "field_cut_off", "share of the field that is in the picture", 0.62),
    GradabilityLimit("brightness", "too_dark", "median brightness", 25),
    GradabilityLimit("saturated", "over_exposed", "share of the field that is saturated", 0.05, is_minimum=False),
    GradabilityLimit("reddish", "not_a_fundus", "share of the field that is redder than green", 0.5),
    GradabilityLimit("colour_spread", "not_a_fundus", "spread of the colours", 0.4, is_minimum=False),
    GradabilityLimit("edges", "not_a_fundus", "share of the field with sharp edges", 0.12, is_minimum=False),
    GradabilityLimit("contrast", "low_contrast", "contrast in grey levels", 0.9),
    GradabilityLimit("detail", "blurred", "fine detail in grey levels a pixel", 0.4),
)
"""In the order in which they are looked at."""


def assess_gradability(photograph: Photograph, field: Field) -> None:
    """Returns for a photograph that can be graded.

    Raises Ungradable with the code no_field, field_cut_off, too_dark, over_exposed, not_a_fundus, low_contrast or
    blurred, and the figure that told.
    """
    found = measure_quality(photograph, field)
    for limit in GRADABILITY_LIMITS:
        complaint = limit.complain(getattr(found, limit.measure))
        if complaint is not None:
            raise Ungradable(complaint, code=limit.code)


def measure_quality(photograph: Photograph, field: Field) -> QualityMeasures:
    """Raises Ungradable(no_field) where the border lies outside the box."""
    picture = _resize_box(photograph, field)
    x, y = _places_in_border(field)
    inner = np.asarray(x**2 + y**2 < _INNER**2)
    if not inner.any():
        raise Ungradable("no field of view: its border lies outside its box", code="no_field")
    red, middle, blue = cv2.split(picture)
    brightest = np.asarray(cv2.max(cv2.max(red, middle), blue))[inner]
    green = middle.astype(np.float32)
    fine = green - cv2.GaussianBlur(green, (0, 0), _DETAIL_SIGMA_PX)
    coarse = (green - cv2.GaussianBlur(green, (0, 0), _BACKGROUND_SIGMA_PX))[inner]
    ordered = np.sort(coarse)
    across, down = _slopes(np.asarray(cv2.GaussianBlur(green, (0, 0), _EDGE_SIGMA_PX), np.float32))
    reddish, colour_spread = _measure_colours(picture.reshape(-1, 3)[np.flatnonzero(inner)[::_EVERY]])
    return QualityMeasures(
        visible=_visible_share(field),
        brightness=float(np.median(brightest)),
        saturated=float((middle[inner] >= _SATURATED).mean()),
        reddish=reddish,
        colour_spread=colour_spread,
        edges=float((across**2 + down**2 > _EDGE**2)[inner].mean()),
        contrast=(_quantile(ordered, 0.9) - _quantile(ordered, 0.1)) / 2.563,
        detail=_least_slope(*(slope[inner] for slope in _slopes(fine))),
    )


def _resize_box(photograph: Photograph, field: Field) -> NDArray[np.uint8]:
    """uint8 (S, S, 3). A large box is halved on the way, which takes half the time; an odd last line is left out."""
    rows, columns = slice(field.top, field.bottom), slice(field.left, field.right)
    height, width = field.bottom - field.top, field.right - field.left
    if min(height, width) < _LARGE * _SIZE_PX:
        return resize_crop(photograph, rows, columns, height=_SIZE_PX, width=_SIZE_PX, interpolation=cv2.INTER_AREA)
    even = photograph.rgb[field.top : field.bottom - height % 2, field.left : field.right - width % 2]
    half = cv2.resize(even, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(half, (_SIZE_PX, _SIZE_PX), interpolation=cv2.INTER_AREA), np.uint8)


def _places_in_border(field: Field) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of the middles of the resized box's columns (1, S) and rows (S, 1), in radii from the border's centre."""
    border = field.border
    places = (np.arange(_SIZE_PX) + 0.5) / _SIZE_PX
    x = (field.left + places * (field.right - field.left) - 0.5 - border.centre_x) / border.radius_x_px
    y = (field.top + places * (field.bottom - field.top) - 0.5 - border.centre_y) / border.radius_y_px
    return x[None, :], y[:, None]


def _visible_share(field: Field) -> float:
    """Share of the border's ellipse that lies within the box."""
    x, y = _places_in_border(field)
    across, down = (float(np.ptp(places)) / (_SIZE_PX - 1) for places in (x, y))
    return min(1.0, float((x**2 + y**2 <= 1).sum()) * across * down / np.pi)


def _measure_colours(pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """`reddish` and `colour_spread` of pixels (N, 3)."""
    channels = np.ascontiguousarray(pixels.T).astype(np.float32)
    shares = channels / np.maximum(channels.sum(axis=0), 1)
    usual = [_quantile(np.sort(share), 0.5) for share in shares]
    apart = np.abs(shares - np.array(usual, np.float32)[:, None]).sum(axis=0)
    return float((channels[0] > channels[1]).mean()), _quantile(np.sort(apart), 0.9)


def _quantile(ordered: NDArray[np.floating[Any]], share: float) -> float:
    """As NumPy's, which takes four times as long as its sort; ordered: (N,), N >= 1."""
    place = share * (len(ordered) - 1)
    before = int(place)
    low, high = float(ordered[before]), float(ordered[min(before + 1, len(ordered) - 1)])
    return low + (place - before) * (high - low)


def _slopes(picture: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Across and down, in grey levels a pixel (Sobel)."""
    across, down = (cv2.Sobel(picture, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    return np.asarray(across, np.float32), np.asarray(down, np.float32)


def _least_slope(across: NDArray[np.float32], down: NDArray[np.float32]) -> float:
    """Root of the structure tensor's smaller eigenvalue."""
    xx, yy, xy = float((across**2).mean()), float((down**2).mean()), float((across * down).mean())
    return float(max((xx + yy) / 2 - np.hypot((xx - yy) / 2, xy), 0) ** 0.5)
