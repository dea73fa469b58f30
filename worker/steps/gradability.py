"""Refuse photographs in which nobody could grade the retina.

The limits are conservative: each lies beyond the worst of 3,529 photographs that experts did grade (APTOS and IDRiD),
so that what is refused is hopeless and not merely poor. Measured on the field's box at 224 x 224 pixels.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.contract.errors import Ungradable
from worker.items import Field, Photograph

MIN_BRIGHTNESS = 25.0
"""Median of the brightest channel, 0 to 255. Worst photograph 37."""
MAX_OVER_EXPOSED = 0.25
"""Share of the field whose green channel, which shows the lesions, is saturated. Worst photograph 0.023."""
MIN_CONTRAST = 1.2
"""Standard deviation of green less its background, in grey levels. Worst photograph 1.55."""
MIN_SHARPNESS = 0.2
"""Share of that contrast finer than 2 pixels. Worst photograph 0.23; blurred by 4 pixels the median has 0.16."""

_SIZE_PX = 224
_INNER = 0.9
"""The rim is left out: its own edge would pass for detail."""
_SATURATED = 250
_BACKGROUND_SIGMA_PX = _SIZE_PX / 30
_DETAIL_SIGMA_PX = 2.0


def assess_gradability(photograph: Photograph, field: Field) -> None:
    """Returns for a photograph that can be graded.

    Raises Ungradable with the code no_field, too_dark, over_exposed, low_contrast or blurred, and the figure that told.
    """
    crop = photograph.rgb[field.top : field.bottom, field.left : field.right]
    picture = cv2.resize(crop, (_SIZE_PX, _SIZE_PX), interpolation=cv2.INTER_AREA)
    inner = _inner_field(field)
    if not inner.any():
        raise Ungradable("no field of view: its border lies outside its box", code="no_field")
    brightness = float(np.median(picture.max(axis=2)[inner]))
    if brightness < MIN_BRIGHTNESS:
        raise Ungradable(f"median brightness {brightness:.0f}, {MIN_BRIGHTNESS:.0f} is needed", code="too_dark")
    green = picture[..., 1].astype(np.float32)
    saturated = float((green[inner] >= _SATURATED).mean())
    if saturated > MAX_OVER_EXPOSED:
        raise Ungradable(
            f"{saturated:.0%} of the field is saturated, limit {MAX_OVER_EXPOSED:.0%}", code="over_exposed"
        )
    contrast = _variation(green, _BACKGROUND_SIGMA_PX, inner)
    if contrast < MIN_CONTRAST:
        raise Ungradable(f"contrast {contrast:.2f} grey levels, {MIN_CONTRAST} are needed", code="low_contrast")
    sharpness = _variation(green, _DETAIL_SIGMA_PX, inner) / contrast
    if sharpness < MIN_SHARPNESS:
        raise Ungradable(
            f"{sharpness:.2f} of the contrast is in fine detail, {MIN_SHARPNESS} is needed", code="blurred"
        )


def _inner_field(field: Field) -> NDArray[np.bool_]:
    """What lies well within the border, on the resized box."""
    border = field.border
    places = (np.arange(_SIZE_PX) + 0.5) / _SIZE_PX
    x = (field.left + places * (field.right - field.left) - 0.5 - border.centre_x) / border.radius_x_px
    y = (field.top + places * (field.bottom - field.top) - 0.5 - border.centre_y) / border.radius_y_px
    return np.asarray(np.hypot(x[None, :], y[:, None]) < _INNER)


def _variation(green: NDArray[np.float32], sigma_px: float, inner: NDArray[np.bool_]) -> float:
    """Standard deviation of what is finer than `sigma_px`, within the field."""
    return float(np.std((green - cv2.GaussianBlur(green, (0, 0), sigma_px))[inner]))
