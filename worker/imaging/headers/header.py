"""The header of an image file, and the limits on its size."""

from dataclasses import dataclass
from enum import StrEnum


class ImageFormat(StrEnum):
    """Accepted formats, detected by content and never by file name."""

    JPEG = "JPEG"
    PNG = "PNG"
    TIFF = "TIFF"
    WEBP = "WebP"
    BMP = "BMP"
    DICOM = "DICOM"
    JPEG_2000 = "JPEG 2000"
    """Within DICOM only."""


@dataclass(frozen=True, slots=True)
class Header:
    """Format and size of an image. width, height: in pixels as stored, before EXIF rotation."""

    format: ImageFormat
    width: int
    height: int
    has_alpha: bool = False


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Size limits of one image."""

    max_image_bytes: int = 64 * 2**20
    """Maximum file size."""
    max_image_pixels: int = 150_000_000
    """Maximum width x height."""
