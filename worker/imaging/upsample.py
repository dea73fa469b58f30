"""Bicubic upsampling of saliency maps, shared by the overlay and the saliency audit."""

import cv2
import numpy as np
from numpy.typing import NDArray


def upsample_cubic(values: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize a map, float32 (h, w), to (height, width). Values between two cells may exceed both.

    Edges are replicated. Source: cubic convolution (Keys 1981) with OpenCV's coefficient a = -0.75.
    """
    return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def upsample_saliency(saliency: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize a saliency map, float32 (h, w) in [0, 1], to (height, width) in [0, 1].

    Negative lobes are clipped to 0 and the maximum is scaled to 1 again; a map of zeros stays zero. Evidence that two
    cells share peaks between them.
    """
    positive = np.maximum(upsample_cubic(saliency, height, width), 0)
    return np.asarray(positive / (positive.max() or 1), np.float32)
