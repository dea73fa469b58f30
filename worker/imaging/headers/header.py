"""What is known of a picture before it is decoded, and the limits it has to keep."""

from dataclasses import dataclass
from enum import StrEnum


class ImageFormat(StrEnum):
    """The accepted formats, told by content and never by name."""

    JPEG = "JPEG"
    PNG = "PNG"
    TIFF = "TIFF"
    WEBP = "WebP"
    BMP = "BMP"


@dataclass(frozen=True, slots=True)
class Header:
    """Size in pixels as stored, before any rotation that the file asks for."""

    format: ImageFormat
    width: int
    height: int
    has_alpha: bool = False


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What one image may cost."""

    max_image_bytes: int = 64 * 2**20
    """Largest file."""
    max_image_pixels: int = 150_000_000
    """Largest width x height."""
