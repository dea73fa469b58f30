"""Convert the samples of a DICOM image to 8-bit RGB: window, palette, inverted grey, YBR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from worker.core.errors import ImageDecodeError, ImageFormatError
from worker.imaging.dicom.attributes import find_number, read_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

Samples: TypeAlias = "NDArray[np.uint8] | NDArray[np.uint16]"

_INTERCEPT, _SLOPE, _CENTRE, _WIDTH, _FUNCTION = "00281052", "00281053", "00281050", "00281051", "00281056"
_DESCRIPTORS, _TABLES = ("00281101", "00281102", "00281103"), ("00281201", "00281202", "00281203")
DISPLAY_TAGS = (_INTERCEPT, _SLOPE, _CENTRE, _WIDTH, _FUNCTION, *_DESCRIPTORS, *_TABLES)
"""Attributes that windows and palettes are read from."""


@dataclass(frozen=True, slots=True)
class Window:
    """Linear rescale, then the window that the camera suggests for display (PS3.3, C.11.1 and C.11.2)."""

    centre: float
    width: float
    function: str = "LINEAR"
    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of a PALETTE COLOR image. first: index of the first colour. colours: uint8 (N, 3) RGB."""

    first: int
    colours: NDArray[np.uint8]


def find_window(dataset: Dataset) -> Window | None:
    """Return the first window of a header, None without one. Raises ImageDecodeError for an impossible one."""
    centre, width = find_number(dataset, _CENTRE), find_number(dataset, _WIDTH)
    if centre is None or width is None:
        return None
    element = dataset.get(int(_FUNCTION, 16))
    function = str(element.value).upper() if element is not None and element.value else "LINEAR"
    slope, intercept = find_number(dataset, _SLOPE), find_number(dataset, _INTERCEPT)
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID") or width < 1 or slope == 0:
        raise ImageDecodeError("DICOM header: window is malformed")
    return Window(centre, width, function, 1.0 if slope is None else slope, intercept or 0.0)


def read_palette(dataset: Dataset) -> Palette:
    """Return the palette of a header (PS3.3, C.7.6.3.1.5).

    Raises ImageFormatError for a segmented palette, ImageDecodeError for a malformed one.
    """
    columns, firsts = [], set()
    for descriptor, table in zip(_DESCRIPTORS, _TABLES, strict=True):
        element = dataset.get(int(descriptor, 16))
        if element is None or dataset.get(int(table, 16)) is None:
            raise ImageFormatError("DICOM image has a segmented palette or none, which is not supported")
        count, first, bits = (int(value) for value in element.value)
        entries = count or 2**16
        data = read_bytes(dataset, table)
        # Also entries of 8 bits may be stored in 16.
        is_wide = len(data) >= 2 * entries
        column = np.frombuffer(data, "<u2" if is_wide else "u1", entries)
        columns.append((column >> 8 if bits == 16 else column).astype(np.uint8))
        firsts.add(first)
    if len(firsts) != 1 or len({len(column) for column in columns}) != 1:
        raise ImageDecodeError("DICOM palette: its three descriptors differ")
    return Palette(firsts.pop(), np.stack(columns, axis=1))


def render_samples(
    samples: Samples, photometric_interpretation: str, *, bits: int, window: Window | None, palette: Palette | None
) -> NDArray[np.uint8]:
    """Return 8-bit RGB (H, W, 3).

    samples: (H, W) or (H, W, 3), uint8 or uint16, of which the lower `bits` count. Without a window, more than 8 bits
    are scaled by their range.
    """
    if palette is not None:
        index = np.clip(samples.astype(np.int32) - palette.first, 0, len(palette.colours) - 1)
        coloured: NDArray[np.uint8] = palette.colours[index]
        return coloured
    eight = np.asarray(samples, np.uint8) if bits == 8 else _scale(samples.astype(np.uint16), bits, window)
    if photometric_interpretation.startswith("MONOCHROME"):
        grey = 255 - eight if photometric_interpretation == "MONOCHROME1" else eight
        return np.repeat(np.asarray(grey, np.uint8)[..., None], 3, axis=2)
    if photometric_interpretation.startswith("YBR"):
        luma, blue, red = cv2.split(eight)
        return np.asarray(cv2.cvtColor(cv2.merge((luma, red, blue)), cv2.COLOR_YCrCb2RGB), np.uint8)
    return np.asarray(eight, np.uint8)


def _scale(samples: NDArray[np.uint16], bits: int, window: Window | None) -> NDArray[np.uint8]:
    values = samples & np.uint16(2**bits - 1)
    if window is None:
        return (values >> (bits - 8)).astype(np.uint8)
    scaled = values.astype(np.float32) * np.float32(window.slope) + np.float32(window.intercept)
    centre, width = window.centre, window.width
    if window.function == "LINEAR":
        # Half a value less on each side, as the standard has it.
        centre, width = centre - 0.5, max(width - 1, 1e-6)
    if window.function == "SIGMOID":
        share = 1 / (1 + np.exp(np.clip(-4 * (scaled - centre) / width, -80, 80)))
    else:
        share = np.clip((scaled - centre) / width + 0.5, 0, 1)
    return np.asarray(np.rint(share * 255), np.uint8)
