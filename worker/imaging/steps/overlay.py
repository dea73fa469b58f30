"""Draw the saliency map over the photograph's field, and encode the result.

A map is transparent where it is low, tinted above TINTED_FROM, and has contour lines at CONTOURS; the levels are shares
of the evidence that the model's scale shows in full. So an eye without evidence looks like its photograph.
"""

from functools import cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.colour_maps import NOTEBOOK_COLOUR_MAP, WARM_COLOUR_MAP, load_colour_map
from worker.imaging.contours import CONTOURS, draw_contours, find_contours
from worker.imaging.photograph import PreparedImage
from worker.imaging.saliency_levels import place_on_canvas

TINTED_FROM = 0.25
"""Level below which a map is transparent."""
MAX_OPACITY = 0.35
"""Opacity of the tint at level 1: vessels and lesions stay visible below it."""
RETINA = (170, 84, 36)
"""Colour of a retina, as the ground of a scale."""

Pixels = NDArray[np.uint8]


def use_one_opencv_thread() -> None:
    """Restrict OpenCV to the calling thread: the other cores are used by the engine and the decoders."""
    cv2.setNumThreads(1)


def render_overlay(
    prepared: PreparedImage,
    saliency: NDArray[np.float32],
    colours: str = WARM_COLOUR_MAP,
    *,
    strength: float = 1.0,
) -> Pixels:
    """Draw the saliency map over the photograph: uint8 (C, C, 3) RGB, black outside the field.

    Overlay and canvas have the same pixels in the same places, and any picture of the same canvas at another size lies
    under it if both are stretched to one square: a page may switch or fade between them.

    saliency: float32 (h, w) in [0, 1]. It covers `prepared.crop_box`; beyond it, where the model saw nothing, it is 0.
    A map of zeros leaves the photograph unchanged.
    colours: `warm`, `notebook`, or the name of an OpenCV colour map, such as `turbo`. `notebook` covers the whole field
    by half, and stretches each map to its own maximum, whatever its strength.
    strength: level of the map's maximum, in [0, 1], see `Evidence.strength`.
    Raises SettingsError for an unknown colour map.
    """
    colour_map = load_colour_map(colours)
    overlay = prepared.canvas
    if colours == NOTEBOOK_COLOUR_MAP:
        if saliency.any():
            # Five times as fast as NumPy's indexing and `np.where`.
            coloured = cv2.applyColorMap(place_on_canvas(saliency, prepared, 1.0), colour_map[:, None])
            overlay = np.asarray(cv2.addWeighted(overlay, 0.5, coloured, 0.5, 0), np.uint8)
    elif strength > TINTED_FROM and saliency.any():
        levels = place_on_canvas(saliency, prepared, strength)
        rows, columns = _find_tinted(levels)
        part = levels[rows, columns]
        if part.size:
            tinted = draw_contours(_tint(overlay[rows, columns], part, colours), part, _line_width_px(len(levels)))
            overlay = overlay.copy()
            overlay[rows, columns] = tinted
    return np.asarray(cv2.bitwise_and(overlay, overlay, mask=prepared.field_mask.view(np.uint8)), np.uint8)


def render_saliency_layer(
    prepared: PreparedImage,
    saliency: NDArray[np.float32],
    colours: str = WARM_COLOUR_MAP,
    *,
    strength: float = 1.0,
    with_contours: bool = True,
) -> Pixels:
    """Draw the saliency map without the photograph, uint8 (C, C, 4) RGBA, for a page that lays it over the photograph.

    It is aligned with the canvas as the overlay is. On the canvas at full opacity it equals `render_overlay`, which
    documents arguments and errors. with_contours: False for a page that draws the lines of `trace_contours` itself.
    """
    side = prepared.canvas.shape[0]
    if colours == NOTEBOOK_COLOUR_MAP:
        levels = place_on_canvas(saliency, prepared, 1.0)
        rgb = np.asarray(cv2.applyColorMap(levels, load_colour_map(colours)[:, None]), np.uint8)
        alpha = np.full((side, side), 128 if saliency.any() else 0, np.uint8)
    else:
        levels, width_px = place_on_canvas(saliency, prepared, strength), _line_width_px(side)
        rgb = np.asarray(cv2.applyColorMap(levels, load_colour_map(colours)[:, None]), np.uint8)
        alpha = np.asarray(cv2.LUT(levels, _opacities()), np.uint8)
        if with_contours:
            rgb = draw_contours(rgb, levels, width_px)
            lines = cv2.dilate(find_contours(levels, width_px), np.ones((3, 3), np.uint8))
            alpha = np.asarray(cv2.max(alpha, lines), np.uint8)
    return np.asarray(np.dstack([rgb, np.where(prepared.field_mask, alpha, 0)]), np.uint8)


def render_scale(width_px: int, height_px: int, colours: str = WARM_COLOUR_MAP) -> Pixels:
    """Draw the scale of the levels 0 to 1 on the colour of a retina, uint8 (height, width, 3) RGB.

    It has a line at each of CONTOURS, except with `notebook`.
    """
    levels = np.tile(np.linspace(0, 255, width_px).round().astype(np.uint8), (height_px, 1))
    retina = np.tile(np.array(RETINA, np.uint8), (height_px, width_px, 1))
    if colours == NOTEBOOK_COLOUR_MAP:
        return np.asarray(cv2.applyColorMap(levels, load_colour_map(colours)[:, None]), np.uint8)
    scale = _tint(retina, levels, colours)
    for level in CONTOURS:
        at = round(level * (width_px - 1))
        scale[:, max(at - 2, 0) : at + 2] = 0
        scale[:, max(at - 1, 0) : at + 1] = 255
    return scale


def encode_overlay(rgb: NDArray[np.uint8], fmt: Literal["png", "jpeg"], quality: int) -> bytes:
    """Encode an image, uint8 (H, W, 3) RGB, as a lossless PNG or as a JPEG. quality: 1 to 100, JPEG only.

    Raises ValueError if the format cannot hold the image: a JPEG has at most 65,500 pixels on a side.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if fmt == "jpeg" else []
    succeeded, encoded = cv2.imencode(f".{fmt}", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    if not succeeded:
        raise ValueError(f"an image of shape {rgb.shape} cannot be encoded as {fmt}")
    return encoded.tobytes()


def _find_tinted(levels: Pixels) -> tuple[slice, slice]:
    """Return the rows and columns that hold every tinted pixel: drawing only there saves half of the time."""
    _, tinted = cv2.threshold(levels, TINTED_FROM * 255, 255, cv2.THRESH_BINARY)
    left, top, width, height = cv2.boundingRect(tinted)
    return slice(top, top + height), slice(left, left + width)


def _tint(photograph: Pixels, levels: Pixels, colours: str) -> Pixels:
    """Blend the colours of levels (h, w) into a photograph (h, w, 3)."""
    paint, rest = _paints(colours)
    shine = cv2.multiply(photograph, cv2.applyColorMap(levels, rest), scale=1 / 255)
    return np.asarray(cv2.add(shine, cv2.applyColorMap(levels, paint)), np.uint8)


@cache
def _opacities() -> Pixels:
    """Opacity of levels 0 to 255, uint8 (256,)."""
    levels = np.arange(256) / 255
    return np.rint(255 * MAX_OPACITY * np.clip((levels - TINTED_FROM) / (1 - TINTED_FROM), 0, 1)).astype(np.uint8)


@cache
def _paints(colours: str) -> tuple[Pixels, Pixels]:
    """Return the colours times their opacity, and the share of the photograph that remains, uint8 (256, 1, 3)."""
    opacities = _opacities()[:, None]
    paint = np.rint(load_colour_map(colours) * (opacities / 255)).astype(np.uint8)
    return paint[:, None], np.repeat(255 - opacities, 3, axis=1)[:, None]


def _line_width_px(side_px: int) -> int:
    """Return the width of a line on a canvas, an even number because the border has two sides."""
    return 2 * max(1, round(side_px / 512))
