"""Assess gradability: refuse photographs whose retina nobody could grade, and images of something else.

Nearly all photographs of APTOS and IDRiD, which experts graded, are within the limits, so that only unusable ones are
refused, not merely poor ones. `python -m tests.benchmarks.gradability FOLDER` prints how many photographs of a folder
are refused, and how many of their deliberately degraded copies. Measured on the field's box at 224 x 224 pixels.
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
"""A box of at least this multiple of `_SIZE_PX` is downscaled in two steps."""
_INNER = 0.9
"""Share of the radius that is measured; the edge of the field would count as detail."""
_SATURATED = 250
"""Grey level from which green counts as saturated."""
_BACKGROUND_SIGMA_PX = _SIZE_PX / 30
_DETAIL_SIGMA_PX = 2.0
_EDGE_SIGMA_PX = 1.0
_EDGE = 7.5
"""Slope of a sharp edge, in grey levels per pixel; vessels have less."""
_COLOUR_STRIDE = 4
"""Colours vary slowly, so every fourth pixel is enough."""


@dataclass(frozen=True, slots=True)
class QualityMeasures:
    """Image quality measures of one field.

    visible: share of the whole field within the photograph.
    brightness: median of the brightest channel, 0 to 255.
    saturated: share of the field whose green channel, which shows the lesions, is saturated.
    reddish: share of the field with more red than green.
    colour_spread: 90th percentile of the distance from the median chromaticity (sum over red, green and blue).
    edges: share of the field with sharp edges, as man-made objects and landscapes have.
    contrast: standard deviation of green minus its background, in grey levels, estimated from the 10th and 90th
    percentiles.
    detail: root mean square slope of structures finer than 2 pixels, in grey levels per pixel, in the direction with
    the smallest slope; motion blur in one direction gives 0.
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
    """A minimum or maximum of one quality measure, as a share or in grey levels."""

    measure: str
    """Name of a field of QualityMeasures."""
    code: str
    """Reason code of Ungradable."""
    description: str
    bound: float
    is_minimum: bool = True

    def describe_violation(self, value: float) -> str | None:
        """Return a description with value and limit; None if the value is within the limit."""
        if (value < self.bound) if self.is_minimum else (value > self.bound):
            return f"{self.description} {value:.3g}, {'minimum' if self.is_minimum else 'maximum'} {self.bound:g}"
        return None


GRADABILITY_LIMITS = (
    GradabilityLimit("visible", "field_cut_off", "share of the field within the photograph", 0.62),
    GradabilityLimit("brightness", "too_dark", "median brightness", 25),
    GradabilityLimit("saturated", "over_exposed", "share of the field that is saturated", 0.05, is_minimum=False),
    GradabilityLimit("reddish", "not_a_fundus", "share of the field with more red than green", 0.5),
    GradabilityLimit("colour_spread", "not_a_fundus", "colour spread", 0.4, is_minimum=False),
    GradabilityLimit("edges", "not_a_fundus", "share of the field with sharp edges", 0.12, is_minimum=False),
    GradabilityLimit("contrast", "low_contrast", "contrast in grey levels", 0.9),
    GradabilityLimit("detail", "blurred", "fine detail in grey levels per pixel", 0.4),
)
"""In the order of checking; the first violation is reported."""


def assess_gradability(photograph: Photograph, field: Field) -> None:
    """Raise Ungradable for a photograph that cannot be graded, with the measure that is out of its limit.

    Codes: no_field, field_cut_off, too_dark, over_exposed, not_a_fundus, low_contrast, blurred.
    """
    measures = measure_quality(photograph, field)
    for limit in GRADABILITY_LIMITS:
        violation = limit.describe_violation(getattr(measures, limit.measure))
        if violation is not None:
            raise Ungradable(violation, code=limit.code)


def measure_quality(photograph: Photograph, field: Field) -> QualityMeasures:
    """Measure the quality of a field. Raises Ungradable(no_field) if the border lies outside the box."""
    image = _resize_box(photograph, field)
    x, y = _normalised_coordinates(field)
    inner = np.asarray(x**2 + y**2 < _INNER**2)
    if not inner.any():
        raise Ungradable("no field of view: the border lies outside the bounding box", code="no_field")
    red, green_8bit, blue = cv2.split(image)
    brightest = np.asarray(cv2.max(cv2.max(red, green_8bit), blue))[inner]
    green = green_8bit.astype(np.float32)
    detail = green - cv2.GaussianBlur(green, (0, 0), _DETAIL_SIGMA_PX)
    flattened = (green - cv2.GaussianBlur(green, (0, 0), _BACKGROUND_SIGMA_PX))[inner]
    ordered = np.sort(flattened)
    across, down = _slopes(np.asarray(cv2.GaussianBlur(green, (0, 0), _EDGE_SIGMA_PX), np.float32))
    reddish, colour_spread = _measure_colours(image.reshape(-1, 3)[np.flatnonzero(inner)[::_COLOUR_STRIDE]])
    return QualityMeasures(
        visible=_visible_share(field),
        brightness=float(np.median(brightest)),
        saturated=float((green_8bit[inner] >= _SATURATED).mean()),
        reddish=reddish,
        colour_spread=colour_spread,
        edges=float((across**2 + down**2 > _EDGE**2)[inner].mean()),
        contrast=(_quantile(ordered, 0.9) - _quantile(ordered, 0.1)) / 2.563,
        detail=_least_slope(*(slope[inner] for slope in _slopes(detail))),
    )


def _resize_box(photograph: Photograph, field: Field) -> NDArray[np.uint8]:
    """Resize the box to uint8 (S, S, 3). Large boxes are halved first, twice as fast; an odd line is dropped."""
    rows, columns = slice(field.top, field.bottom), slice(field.left, field.right)
    height, width = field.bottom - field.top, field.right - field.left
    if min(height, width) < _LARGE * _SIZE_PX:
        return resize_crop(photograph, rows, columns, height=_SIZE_PX, width=_SIZE_PX, interpolation=cv2.INTER_AREA)
    even = photograph.rgb[field.top : field.bottom - height % 2, field.left : field.right - width % 2]
    half = cv2.resize(even, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(half, (_SIZE_PX, _SIZE_PX), interpolation=cv2.INTER_AREA), np.uint8)


def _normalised_coordinates(field: Field) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixel centres of the resized box in radii from the border's centre: x (1, S), y (S, 1)."""
    border = field.border
    centres = (np.arange(_SIZE_PX) + 0.5) / _SIZE_PX
    x = (field.left + centres * (field.right - field.left) - 0.5 - border.centre_x) / border.radius_x_px
    y = (field.top + centres * (field.bottom - field.top) - 0.5 - border.centre_y) / border.radius_y_px
    return x[None, :], y[:, None]


def _visible_share(field: Field) -> float:
    """Share of the ellipse within the box."""
    x, y = _normalised_coordinates(field)
    pixel_width, pixel_height = (float(np.ptp(coordinates)) / (_SIZE_PX - 1) for coordinates in (x, y))
    return min(1.0, float((x**2 + y**2 <= 1).sum()) * pixel_width * pixel_height / np.pi)


def _measure_colours(pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Return `reddish` and `colour_spread` of pixels (N, 3)."""
    channels = np.ascontiguousarray(pixels.T).astype(np.float32)
    chromaticity = channels / np.maximum(channels.sum(axis=0), 1)
    median = [_quantile(np.sort(channel), 0.5) for channel in chromaticity]
    distance = np.abs(chromaticity - np.array(median, np.float32)[:, None]).sum(axis=0)
    return float((channels[0] > channels[1]).mean()), _quantile(np.sort(distance), 0.9)


def _quantile(ordered: NDArray[np.floating[Any]], share: float) -> float:
    """Return the quantile of sorted values (N,), N >= 1. `np.quantile` takes four times as long as the sort."""
    position = share * (len(ordered) - 1)
    before = int(position)
    low, high = float(ordered[before]), float(ordered[min(before + 1, len(ordered) - 1)])
    return low + (position - before) * (high - low)


def _slopes(image: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Horizontal and vertical slope in grey levels per pixel (Sobel)."""
    across, down = (cv2.Sobel(image, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    return np.asarray(across, np.float32), np.asarray(down, np.float32)


def _least_slope(across: NDArray[np.float32], down: NDArray[np.float32]) -> float:
    """Square root of the smaller eigenvalue of the structure tensor."""
    xx, yy, xy = float((across**2).mean()), float((down**2).mean()), float((across * down).mean())
    return float(max((xx + yy) / 2 - np.hypot((xx - yy) / 2, xy), 0) ** 0.5)
