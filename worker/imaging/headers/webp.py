"""Read the header of a WebP and check that its container is complete."""

from worker.core.errors import ImageDecodeError
from worker.imaging.headers.header import Header, ImageFormat
from worker.imaging.headers.unpack import unpack_at

MAGIC = b"RIFF"
FORM = b"WEBP"
"""Form type of the RIFF container, after four bytes of length."""

_LOSSY_START = b"\x9d\x01\x2a"
_LOSSLESS_START = 0x2F
_ALPHA_FLAG = 0x10
_BODY = 20


def read_webp_header(data: bytes) -> Header:
    """Return the header of a WebP: lossy, lossless or extended (RFC 9649). For an animation, the size of its canvas.

    Raises ImageDecodeError for a truncated file or an unknown first chunk.
    """
    (size,) = unpack_at("<I", data, 4, "WebP container")
    if size + 8 > len(data):
        raise ImageDecodeError(f"WebP truncated at byte {len(data)} of {size + 8}")
    chunk_type = data[12:16]
    if chunk_type == b"VP8 ":
        if data[_BODY + 3 : _BODY + 6] != _LOSSY_START:
            raise ImageDecodeError("WebP frame is malformed: no key frame at byte 23")
        width, height = unpack_at("<HH", data, _BODY + 6, "WebP frame")
        return Header(ImageFormat.WEBP, width & 0x3FFF, height & 0x3FFF)
    if chunk_type == b"VP8L":
        start, packed = unpack_at("<BI", data, _BODY, "WebP lossless frame")
        if start != _LOSSLESS_START:
            raise ImageDecodeError(f"WebP lossless frame is malformed: first byte is {start:02X}, expected 2F")
        width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
        return Header(ImageFormat.WEBP, width, height, has_alpha=bool(packed >> 28 & 1))
    if chunk_type == b"VP8X":
        flags, *sides = unpack_at("<B3x6B", data, _BODY, "WebP extended header")
        width, height = (int.from_bytes(sides[at : at + 3], "little") + 1 for at in (0, 3))
        return Header(ImageFormat.WEBP, width, height, has_alpha=bool(flags & _ALPHA_FLAG))
    raise ImageDecodeError(f"WebP has an unknown first chunk {chunk_type!r}")
