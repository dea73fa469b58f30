"""Resize crops of a photograph; steps that need the same crop at the same size share one array."""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.photograph import Photograph


def resize_crop(
    photograph: Photograph, rows: slice, columns: slice, *, height: int, width: int, interpolation: int
) -> NDArray[np.uint8]:
    """Return the crop, uint8 (height, width, 3), read-only.

    interpolation: one of OpenCV's INTER_ constants.
    """
    key = (rows.start, rows.stop, columns.start, columns.stop, height, width, interpolation)
    if key not in photograph.resized:
        crop = cv2.resize(photograph.rgb[rows, columns], (width, height), interpolation=interpolation)
        resized = np.asarray(crop, np.uint8)
        resized.setflags(write=False)
        photograph.resized[key] = resized
    return photograph.resized[key]
