"""Turn a stored overlay into the picture that is published: a JPEG, with words drawn into it."""

from dataclasses import dataclass

import cv2
import numpy as np

from worker.core.errors import ImageDecodeError
from worker.imaging.headers.check import check_header
from worker.imaging.headers.header import ImageFormat, ImageLimits

MAX_PICTURE_BYTES = 64 * 2**20
MAX_PICTURE_PIXELS = 4096 * 3 * 4096
"""Three of the largest overlays, as in a panel."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_TEXT_SHARE = 0.9
_BAND_SHARE = 0.06
_MIN_BAND_PX = 12


@dataclass(frozen=True, slots=True)
class MarkedPicture:
    """Baseline JPEG, 8 bit YCbCr with 4:2:2 subsampling; size in pixels."""

    jpeg: bytes
    width: int
    height: int


def mark_picture(data: bytes, text: str | None, *, quality: int) -> MarkedPicture:
    """Draw a band with the text at the lower edge of a JPEG or PNG, and encode it as JPEG.

    text: None draws nothing. quality: 1 to 100. Raises ImageError if the data are no such picture or too large.
    """
    header = check_header(data, ImageLimits(MAX_PICTURE_BYTES, MAX_PICTURE_PIXELS))
    if header.format not in (ImageFormat.JPEG, ImageFormat.PNG):
        raise ImageDecodeError(f"the overlay is a {header.format}, not a JPEG or PNG")
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ImageDecodeError("the overlay cannot be decoded")
    if text is not None:
        _draw(bgr, text)
    options = [
        cv2.IMWRITE_JPEG_QUALITY, quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    ]  # fmt: skip
    succeeded, encoded = cv2.imencode(".jpg", bgr, options)
    if not succeeded:
        raise ImageDecodeError("the overlay cannot be encoded as JPEG")
    return MarkedPicture(encoded.tobytes(), bgr.shape[1], bgr.shape[0])


def _draw(bgr: cv2.typing.MatLike, text: str) -> None:
    height, width = bgr.shape[:2]
    band = max(round(height * _BAND_SHARE), _MIN_BAND_PX)
    (text_width, text_height), _ = cv2.getTextSize(text, _FONT, 1, 1)
    scale = min(width * _TEXT_SHARE / text_width, band * 0.6 / text_height)
    cv2.rectangle(bgr, (0, height - band), (width, height), (0, 0, 0), cv2.FILLED)
    at = (round((width - text_width * scale) / 2), height - round((band - text_height * scale) / 2))
    cv2.putText(bgr, text, at, _FONT, scale, (255, 255, 255), max(1, round(scale)), cv2.LINE_AA)
