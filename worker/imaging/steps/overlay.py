"""Render the saliency map over the photograph's field, and encode the result."""

from functools import cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.core.errors import SettingsError
from worker.imaging.photograph import PreparedImage
from worker.imaging.upsample import upsample_cubic

NOTEBOOK_COLOUR_MAP = "notebook"
_LARGE_CELL_PX = 40
"""Side of a saliency cell on the canvas from which the cubic is nearly straight between neighbouring pixels."""


def use_one_opencv_thread() -> None:
    """Restrict OpenCV to the calling thread: the other cores are used by the engine and the decoders."""
    cv2.setNumThreads(1)


def render_overlay(
    prepared: PreparedImage, saliency: NDArray[np.float32], colours: str = NOTEBOOK_COLOUR_MAP, *, opacity: float = 0.5
) -> NDArray[np.uint8]:
    """Blend the coloured saliency map with the photograph: uint8 (C, C, 3) RGB, black outside the field.

    saliency: float32 (h, w) in [0, 1]. It covers `prepared.crop_box`; beyond it, where the model saw nothing, it is 0.
    A map of zeros leaves the photograph unchanged.
    colours: `notebook` or the name of an OpenCV colour map, such as `turbo`.
    opacity: weight of the colours, in [0, 1].
    Raises SettingsError for an unknown colour map.
    """
    colour_map = load_colour_map(colours)
    overlay = prepared.canvas
    if saliency.any():
        # Five times as fast as NumPy's indexing and `np.where`.
        coloured = cv2.applyColorMap(_place_on_canvas(saliency, prepared), colour_map[:, None])
        overlay = np.asarray(cv2.addWeighted(overlay, 1 - opacity, coloured, opacity, 0), np.uint8)
    return np.asarray(cv2.bitwise_and(overlay, overlay, mask=prepared.field_mask.view(np.uint8)), np.uint8)


def render_saliency_layer(
    prepared: PreparedImage, saliency: NDArray[np.float32], colours: str = NOTEBOOK_COLOUR_MAP
) -> NDArray[np.uint8]:
    """Render the coloured saliency map without the photograph, uint8 (C, C, 4) RGBA, opaque within the field.

    Blended half and half with the canvas it equals `render_overlay`, which documents arguments and errors.
    """
    coloured = cv2.applyColorMap(_place_on_canvas(saliency, prepared), load_colour_map(colours)[:, None])
    return np.asarray(np.dstack([coloured, np.where(prepared.field_mask, 255, 0)]), np.uint8)


@cache
def load_colour_map(colours: str) -> NDArray[np.uint8]:
    """Return the colours of levels 0 to 255, uint8 (256, 3) RGB, read-only.

    `notebook` is OpenCV's `spring` with red and blue swapped, from magenta (low) to cyan (high), as in the notebook
    that the project started from. Raises SettingsError, with a list of all names, for an unknown name.
    """
    name = "spring" if colours == NOTEBOOK_COLOUR_MAP else colours
    code = getattr(cv2, f"COLORMAP_{name.upper()}", None)
    if name != name.lower() or not isinstance(code, int):
        raise SettingsError(f"unknown colour map {colours!r}; available: {', '.join(list_colour_maps())}")
    levels = np.arange(256, dtype=np.uint8)[:, None]
    bgr = np.asarray(cv2.applyColorMap(levels, code), np.uint8)[:, 0]
    colour_map = np.ascontiguousarray(bgr if colours == NOTEBOOK_COLOUR_MAP else bgr[:, ::-1])
    colour_map.setflags(write=False)
    return colour_map


def list_colour_maps() -> list[str]:
    """Return the valid names of colour maps."""
    prefix = "COLORMAP_"
    return [
        NOTEBOOK_COLOUR_MAP,
        *sorted(name.removeprefix(prefix).lower() for name in dir(cv2) if name.startswith(prefix)),
    ]


def encode_overlay(rgb: NDArray[np.uint8], fmt: Literal["png", "jpeg"], quality: int) -> bytes:
    """Encode an image, uint8 (H, W, 3) RGB, as a lossless PNG or as a JPEG. quality: 1 to 100, JPEG only.

    Raises ValueError if the format cannot hold the image: a JPEG has at most 65,500 pixels on a side.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if fmt == "jpeg" else []
    succeeded, encoded = cv2.imencode(f".{fmt}", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    if not succeeded:
        raise ValueError(f"an image of shape {rgb.shape} cannot be encoded as {fmt}")
    return encoded.tobytes()


def _upsample(saliency: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize to (height, width): bicubic, with a last bilinear doubling if the cells are large.

    With the doubling it is three times as fast and differs by less than one of 255 levels.
    """
    if min(width, height) < _LARGE_CELL_PX * max(saliency.shape):
        return upsample_cubic(saliency, height, width)
    half = upsample_cubic(saliency, -(-height // 2), -(-width // 2))
    return np.asarray(cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _place_on_canvas(saliency: NDArray[np.float32], prepared: PreparedImage) -> NDArray[np.uint8]:
    """Saliency of each canvas pixel in levels 0 to 255, uint8 (C, C); 0 outside the crop box."""
    top, bottom, left, right = prepared.crop_box
    _, positive = cv2.threshold(_upsample(saliency, bottom - top, right - left), 0, 0, cv2.THRESH_TOZERO)
    _, highest, _, _ = cv2.minMaxLoc(positive)
    shown = positive[max(-top, 0) :, max(-left, 0) :]
    levels = np.zeros(prepared.canvas.shape[:2], np.uint8)
    target = levels[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    target[:] = cv2.convertScaleAbs(shown[: target.shape[0], : target.shape[1]], alpha=255 / (highest or 1))
    return levels
