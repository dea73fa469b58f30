"""The colour maps of saliency overlays, by name."""

from functools import cache
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.core.errors import SettingsError

NOTEBOOK_COLOUR_MAP = "notebook"
WARM_COLOUR_MAP = "warm"
_WARM = (0.55, 0.97)
"""Part of `inferno`, which is perceptually uniform, without its dark colours, which look like haemorrhages."""

Colours: TypeAlias = "NDArray[np.uint8]"


@cache
def load_colour_map(colours: str) -> Colours:
    """Return the colours of levels 0 to 255, uint8 (256, 3) RGB, read-only.

    `warm` is the part of `inferno` from orange to pale yellow. `notebook` is OpenCV's `spring` with red and blue
    swapped, from magenta (low) to cyan (high), as in the notebook that the project started from. Raises SettingsError,
    with a list of all names, for an unknown name.
    """
    if colours == WARM_COLOUR_MAP:
        low, high = _WARM
        warm: Colours = load_colour_map("inferno")[np.linspace(low * 255, high * 255, 256).round().astype(int)]
        warm.setflags(write=False)
        return warm
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
        WARM_COLOUR_MAP,
        NOTEBOOK_COLOUR_MAP,
        *sorted(name.removeprefix(prefix).lower() for name in dir(cv2) if name.startswith(prefix)),
    ]
