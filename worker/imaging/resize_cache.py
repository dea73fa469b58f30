"""Part of a photograph at another size: steps that ask for the same get the same array."""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.imaging.photograph import Photograph


def resize_crop(
    photograph: Photograph, rows: slice, columns: slice, *, height: int, width: int, interpolation: int
) -> NDArray[np.uint8]:
    """These rows and columns as a picture uint8 (height, width, 3), read-only.

    interpolation: one of OpenCV's INTER_ constants.
    """
    asked = (rows.start, rows.stop, columns.start, columns.stop, height, width, interpolation)
    if asked not in photograph.resized:
        part = cv2.resize(photograph.rgb[rows, columns], (width, height), interpolation=interpolation)
        picture = np.asarray(part, np.uint8)
        picture.setflags(write=False)
        photograph.resized[asked] = picture
    return photograph.resized[asked]
