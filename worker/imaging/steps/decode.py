"""Decode the bytes of one photograph, at the scale that is needed."""

import re

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.core.errors import ImageDecodeError, ImageError, ImageTooLargeError
from worker.imaging.codec_warnings import capture_codec_warnings
from worker.imaging.headers.check import check_header
from worker.imaging.headers.header import Header, ImageFormat, ImageLimits
from worker.imaging.photograph import Photograph

# libjpeg's warnings about damaged data, and OpenCV's own word for memory that it did not get.
_DAMAGE = re.compile(r"Corrupt JPEG data: .*|Premature end of .*|Inconsistent progression .*|Invalid SOS .*")
_NO_MEMORY = re.compile(r"Insufficient memory|Failed to allocate|[Oo]ut of memory")
_ERROR_LINE = re.compile(r".*(?:error|Error|warning|Warning).*")
# The reduced scales have a flag with grey and one with BGR; with RGB they are combined.
_REDUCED = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | cv2.IMREAD_COLOR_RGB,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_COLOR_RGB,
}


def decode_photograph(data: bytes, *, cover_px: int, limits: ImageLimits) -> Photograph:
    """The first picture in the bytes, upright, as 8-bit RGB.

    A JPEG is decoded at the smallest of 1, 1/2, 1/4 and 1/8 whose shorter side still has `cover_px` pixels. EXIF
    orientation is applied, transparency put over black, grey and CMYK turned into RGB, 16 bits scaled to 8.
    Raises ImageFormatError, ImageTooLargeError (also when memory runs out) or ImageDecodeError.
    Not for a process with threads: see `worker.imaging.codec_warnings`.
    """
    header = check_header(data, limits)
    reduction = choose_downscale_factor(header, cover_px)
    pixels = _decode(data, header, cv2.IMREAD_UNCHANGED if header.has_alpha else _REDUCED[reduction])
    expected = sorted(-(-side // reduction) for side in (header.height, header.width))
    if sorted(pixels.shape[:2]) != expected:
        raise ImageDecodeError(f"{header.format} decodes to {pixels.shape[:2]}, its header promises {expected}")
    rgb = _flatten(pixels) if header.has_alpha else _to_8_bits(pixels)
    return Photograph(rgb, scale=1 / reduction)


def choose_downscale_factor(header: Header, cover_px: int) -> int:
    """How many times smaller a JPEG can be decoded and still cover; 1 for every other format."""
    if header.format is not ImageFormat.JPEG:
        return 1
    shorter = min(header.width, header.height)
    return max((times for times in _REDUCED if shorter // times >= cover_px), default=1)


def _decode(data: bytes, header: Header, flags: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    try:
        with capture_codec_warnings() as complaints:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise _translate(header, str(error)) from error
    if pixels is None:
        raise _translate(header, complaints.text)
    damage = _DAMAGE.search(complaints.text)
    if damage:
        raise ImageDecodeError(f"{header.format} of {len(data):,} bytes: {damage.group().strip()}")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageDecodeError(f"{header.format} decodes to samples of {pixels.dtype}")
    return pixels  # type: ignore[return-value]


def _translate(header: Header, complaint: str) -> ImageError:
    size = f"{header.format} of {header.width} x {header.height} pixels"
    if _NO_MEMORY.search(complaint):
        return ImageTooLargeError(f"{size} does not fit the decoder's memory")
    line = _ERROR_LINE.search(complaint)
    return ImageDecodeError(f"{size} cannot be decoded: {line.group().strip() if line else 'no reason given'}")


def _flatten(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Grey, BGR or BGR with transparency, as the codec had it, to RGB over black."""
    upper = _to_8_bits(pixels)
    if upper.ndim == 2:
        return np.repeat(upper[..., None], 3, axis=2)
    if upper.shape[2] == 4:
        opaque = upper[..., 3:].astype(np.uint16)
        upper = ((upper[..., :3] * opaque + 127) // 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(upper, cv2.COLOR_BGR2RGB), np.uint8)


def _to_8_bits(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    return (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels.astype(np.uint8, copy=False)
