"""Decode a photograph to 8-bit RGB, at the smallest scale that is large enough."""

import re
from collections.abc import Collection

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.core.errors import ImageDecodeError, ImageError, ImageTooLargeError
from worker.core.vocabulary import DicomAdmission
from worker.imaging.codec_warnings import capture_codec_warnings
from worker.imaging.dicom.display import render_samples
from worker.imaging.dicom.frame import Coding, Frame, read_frame
from worker.imaging.headers.check import check_header
from worker.imaging.headers.header import Header, ImageFormat, ImageLimits
from worker.imaging.headers.jpeg import read_jpeg_header
from worker.imaging.photograph import Photograph

# libjpeg's warnings about damaged data, and OpenCV's errors on failed allocations.
_DAMAGE = re.compile(r"Corrupt JPEG data: .*|Premature end of .*|Inconsistent progression .*|Invalid SOS .*")
_NO_MEMORY = re.compile(r"Insufficient memory|Failed to allocate|[Oo]ut of memory")
_ERROR_LINE = re.compile(r".*(?:error|Error|warning|Warning).*")
# OpenCV has no flag for a reduced scale in RGB: the flags for reduced grey and for RGB are combined.
_DECODE_FLAGS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | cv2.IMREAD_COLOR_RGB,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_COLOR_RGB,
}


def decode_photograph(
    data: bytes, *, cover_px: int, limits: ImageLimits, admitted: Collection[DicomAdmission] = ()
) -> Photograph:
    """Decode the first image of a file to 8-bit RGB, upright.

    A JPEG is decoded at the smallest scale of 1, 1/2, 1/4 and 1/8 whose shorter side has at least `cover_px` pixels.
    EXIF orientation is applied, transparency is composited over black, grey and CMYK are converted to RGB, 16 bits are
    scaled to 8. In DICOM, the header says what the samples mean; metadata within the frame is ignored.
    admitted: DICOM instances to decode in addition to colour photographs.
    Raises ImageFormatError, ImageTooLargeError (also if memory runs out) or ImageDecodeError, and NotAPhotographError
    for other DICOM instances.
    For single-threaded processes only, see `worker.imaging.codec_warnings`.
    """
    header = check_header(data, limits)
    if header.format is ImageFormat.DICOM:
        return _decode_dicom(read_frame(data, limits, admitted), cover_px, limits)
    downscale = choose_downscale_factor(header, cover_px)
    pixels = _decode(data, header, cv2.IMREAD_UNCHANGED if header.has_alpha else _DECODE_FLAGS[downscale])
    _check_size(pixels, header, downscale)
    rgb = _composite_over_black(pixels) if header.has_alpha else _to_8_bits(pixels)
    return Photograph(rgb, scale=1 / downscale)


def _decode_dicom(frame: Frame, cover_px: int, limits: ImageLimits) -> Photograph:
    photometric = frame.photometric_interpretation
    if frame.coding is Coding.JPEG:
        header = check_header(frame.encoded, limits)
        _check_frame(header, frame)
        downscale = choose_downscale_factor(header, cover_px)
        pixels = _decode(frame.encoded, header, _DECODE_FLAGS[downscale])
        _check_size(pixels, header, downscale)
        rgb = _to_8_bits(pixels)
        return Photograph(255 - rgb if photometric == "MONOCHROME1" else rgb, scale=1 / downscale)
    samples = frame.samples if frame.samples is not None else _decode_lossless(frame)
    if frame.gives_rgb:
        photometric = "RGB"
    rgb = render_samples(samples, photometric, bits=frame.bits, window=frame.window, palette=frame.palette)
    return Photograph(np.ascontiguousarray(rgb))


def _decode_lossless(frame: Frame) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode JPEG Lossless and JPEG 2000 to samples in the order of the DICOM header."""
    if frame.coding is Coding.JPEG_LOSSLESS:
        header = read_jpeg_header(frame.encoded, lossless=True)
        _check_frame(header, frame)
    else:
        header = Header(ImageFormat.JPEG_2000, frame.columns, frame.rows)
    samples = _decode(frame.encoded, header, cv2.IMREAD_UNCHANGED)
    _check_size(samples, header, 1)
    if (samples.ndim == 3) is (frame.samples_per_pixel == 1) or (samples.dtype == np.uint16 and frame.bits == 8):
        raise ImageDecodeError(f"{header.format} decodes to {samples.shape}, {samples.dtype}, unlike its DICOM header")
    return samples[..., ::-1] if samples.ndim == 3 else samples


def _check_frame(header: Header, frame: Frame) -> None:
    if (header.width, header.height) != (frame.columns, frame.rows):
        raise ImageDecodeError(
            f"{header.format} frame of {header.width} x {header.height} pixels; "
            f"the DICOM header has {frame.columns} x {frame.rows}"
        )


def _check_size(pixels: NDArray[np.uint8] | NDArray[np.uint16], header: Header, downscale: int) -> None:
    expected = sorted(-(-side // downscale) for side in (header.height, header.width))
    if sorted(pixels.shape[:2]) != expected:
        raise ImageDecodeError(f"{header.format} decodes to {pixels.shape[:2]}, expected {expected} from its header")


def choose_downscale_factor(header: Header, cover_px: int) -> int:
    """Return the largest factor whose shorter side still has `cover_px` pixels; 1 for formats other than JPEG."""
    if header.format is not ImageFormat.JPEG:
        return 1
    shorter = min(header.width, header.height)
    return max((factor for factor in _DECODE_FLAGS if shorter // factor >= cover_px), default=1)


def _decode(data: bytes, header: Header, flags: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    try:
        with capture_codec_warnings() as warnings:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise _translate(header, str(error)) from error
    if pixels is None:
        raise _translate(header, warnings.text)
    damage = _DAMAGE.search(warnings.text)
    if damage:
        raise ImageDecodeError(f"{header.format} of {len(data):,} bytes: {damage.group().strip()}")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageDecodeError(f"{header.format} with {pixels.dtype} samples is not supported")
    return pixels  # type: ignore[return-value]


def _translate(header: Header, message: str) -> ImageError:
    size = f"{header.format} of {header.width} x {header.height} pixels"
    if _NO_MEMORY.search(message):
        return ImageTooLargeError(f"{size} exceeds the decoder's memory limit")
    line = _ERROR_LINE.search(message)
    return ImageDecodeError(f"{size} cannot be decoded: {line.group().strip() if line else 'no reason reported'}")


def _composite_over_black(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Convert grey, BGR or BGRA to 8-bit RGB, composited over black."""
    image = _to_8_bits(pixels)
    if image.ndim == 2:
        return np.repeat(image[..., None], 3, axis=2)
    if image.shape[2] == 4:
        alpha = image[..., 3:].astype(np.uint16)
        image = ((image[..., :3] * alpha + 127) // 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _to_8_bits(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    return (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels.astype(np.uint8, copy=False)
