"""Draw the saliency over the colour photograph's field, and encode the picture."""

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
    """Keep OpenCV to the thread that calls it: the other cores are the engine's and the decoders'."""
    cv2.setNumThreads(1)


def render_overlay(
    prepared: PreparedImage, saliency: NDArray[np.float32], colours: str = NOTEBOOK_COLOUR_MAP, *, opacity: float = 0.5
) -> NDArray[np.uint8]:
    """Saliency in colour over the photograph, uint8 (C, C, 3) RGB; black outside the field.

    saliency: float32 (h, w) in [0, 1]; it fills `prepared.box` and is 0 beyond, where the model did not look.
    colours: `notebook`, or an OpenCV colour map by name, such as `turbo`. opacity: the colours' share, in [0, 1].
    A saliency of zero everywhere leaves the photograph as it is: there is nothing to point at.
    Raises SettingsError for an unknown colour map.
    """
    table = load_colour_map(colours)
    picture = prepared.canvas
    if saliency.any():
        # OpenCV throughout: a fifth of the time of NumPy's indexing and `where`.
        coloured = cv2.applyColorMap(_place_on_canvas(saliency, prepared), table[:, None])
        picture = np.asarray(cv2.addWeighted(picture, 1 - opacity, coloured, opacity, 0), np.uint8)
    return np.asarray(cv2.bitwise_and(picture, picture, mask=prepared.field_mask.view(np.uint8)), np.uint8)


def render_saliency_layer(
    prepared: PreparedImage, saliency: NDArray[np.float32], colours: str = NOTEBOOK_COLOUR_MAP
) -> NDArray[np.uint8]:
    """The saliency's colours alone, uint8 (C, C, 4) RGBA, opaque within the field: laid over the canvas at an opacity
    of one half they are the overlay. Arguments and errors as of `render_overlay`.
    """
    coloured = cv2.applyColorMap(_place_on_canvas(saliency, prepared), load_colour_map(colours)[:, None])
    return np.asarray(np.dstack([coloured, np.where(prepared.field_mask, 255, 0)]), np.uint8)


@cache
def load_colour_map(colours: str) -> NDArray[np.uint8]:
    """Colours of the levels 0 to 255, uint8 (256, 3) RGB. Raises SettingsError naming the colour maps there are.

    `notebook` is OpenCV's spring with red and blue exchanged, as the notebook showed it: magenta is low, cyan is high.
    """
    name = "spring" if colours == NOTEBOOK_COLOUR_MAP else colours
    code = getattr(cv2, f"COLORMAP_{name.upper()}", None)
    if name != name.lower() or not isinstance(code, int):
        raise SettingsError(f"no colour map {colours!r}; there are {', '.join(list_colour_maps())}")
    levels = np.arange(256, dtype=np.uint8)[:, None]
    as_opencv_orders = np.asarray(cv2.applyColorMap(levels, code), np.uint8)[:, 0]
    table = np.ascontiguousarray(as_opencv_orders if colours == NOTEBOOK_COLOUR_MAP else as_opencv_orders[:, ::-1])
    table.setflags(write=False)
    return table


def list_colour_maps() -> list[str]:
    """Names that `colours` may have."""
    prefix = "COLORMAP_"
    return [
        NOTEBOOK_COLOUR_MAP,
        *sorted(name.removeprefix(prefix).lower() for name in dir(cv2) if name.startswith(prefix)),
    ]


def encode_overlay(rgb: NDArray[np.uint8], fmt: Literal["png", "jpeg"], quality: int) -> bytes:
    """The picture, uint8 (H, W, 3) RGB, as a PNG, which is exact, or a JPEG of a quality from 1 to 100.

    Raises ValueError for a picture that the format cannot hold: a JPEG has at most 65,500 pixels on a side.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if fmt == "jpeg" else []
    done, encoded = cv2.imencode(f".{fmt}", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ValueError(f"a picture of {rgb.shape} cannot be a {fmt}")
    return encoded.tobytes()


def _upsample(saliency: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize to (height, width): bicubic, with a last bilinear doubling if the cells are large.

    The doubling takes a third of the time and differs by less than one of 255 levels.
    """
    if min(width, height) < _LARGE_CELL_PX * max(saliency.shape):
        return upsample_cubic(saliency, height, width)
    half = upsample_cubic(saliency, -(-height // 2), -(-width // 2))
    return np.asarray(cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _place_on_canvas(saliency: NDArray[np.float32], prepared: PreparedImage) -> NDArray[np.uint8]:
    """Saliency of each canvas pixel in levels 0 to 255, uint8 (C, C); 0 outside the crop box."""
    top, bottom, left, right = prepared.box
    _, positive = cv2.threshold(_upsample(saliency, bottom - top, right - left), 0, 0, cv2.THRESH_TOZERO)
    _, highest, _, _ = cv2.minMaxLoc(positive)
    shown = positive[max(-top, 0) :, max(-left, 0) :]
    levels = np.zeros(prepared.canvas.shape[:2], np.uint8)
    place = levels[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    place[:] = cv2.convertScaleAbs(shown[: place.shape[0], : place.shape[1]], alpha=255 / (highest or 1))
    return levels
