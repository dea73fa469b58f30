"""Downscale and encode an image for a report page."""

import cv2
import numpy as np
from numpy.typing import NDArray


def encode_thumbnail(image: NDArray[np.uint8], side_px: int, quality: int) -> bytes:
    """Encode a square image, uint8 (C, C, 3) RGB or (C, C, 4) RGBA, as a WebP of at most `side_px` pixels on a side.

    quality: 1 to 100. Raises ValueError if the image cannot be encoded.
    """
    if image.shape[0] > side_px:
        image = np.asarray(cv2.resize(image, (side_px, side_px), interpolation=cv2.INTER_AREA), np.uint8)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    succeeded, encoded = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not succeeded:
        raise ValueError(f"an image of shape {image.shape} cannot be encoded as WebP")
    return encoded.tobytes()
