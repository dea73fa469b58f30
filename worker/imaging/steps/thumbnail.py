"""Shrink a picture and encode it for a page."""

import cv2
import numpy as np
from numpy.typing import NDArray


def encode_thumbnail(picture: NDArray[np.uint8], side_px: int, quality: int) -> bytes:
    """A square picture, uint8 (C, C, 3) RGB or (C, C, 4) RGBA, as a WebP of at most `side_px` on a side.

    quality: 1 to 100. Raises ValueError for a picture that cannot be encoded.
    """
    if picture.shape[0] > side_px:
        picture = np.asarray(cv2.resize(picture, (side_px, side_px), interpolation=cv2.INTER_AREA), np.uint8)
    as_opencv_orders = cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".webp", as_opencv_orders, [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not done:
        raise ValueError(f"a picture of {picture.shape} cannot be a WebP")
    return encoded.tobytes()
