"""Read the header of a PNG and verify that its chunks are complete and intact."""

import zlib

from worker.core.errors import ImageDecodeError
from worker.imaging.headers.header import Header, ImageFormat
from worker.imaging.headers.unpack import unpack_at

MAGIC = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 65_536
"""Bounds the walk over a file made of empty chunks. A file of 64 MiB in chunks of 8 KiB has 8,192."""

_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_ALPHA_COLOURS = (4, 6)
_FRAMING_BYTES = 12
"""Length, type and checksum of a chunk."""


def read_png_header(data: bytes) -> Header:
    """Return the header of a PNG (ISO/IEC 15948, clause 11.2.2). Raises ImageDecodeError if it is malformed."""
    start = len(MAGIC)
    if data[start : start + 8] != b"\x00\x00\x00\x0dIHDR":
        raise ImageDecodeError("PNG header is missing or malformed: no IHDR chunk of 13 bytes")
    width, height, depth, colour = unpack_at(">IIBB", data, start + 8, "PNG header")
    if depth not in _DEPTHS.get(colour, ()):
        raise ImageDecodeError(f"PNG header is malformed: colour type {colour} with {depth} bits per sample")
    return Header(ImageFormat.PNG, width, height, has_alpha=colour in _ALPHA_COLOURS or _has_transparent_colour(data))


def verify_png_chunks(data: bytes) -> None:
    """Raise ImageDecodeError for a truncated PNG or a chunk whose checksum does not match."""
    offset = len(MAGIC)
    view = memoryview(data)
    for _ in range(MAX_CHUNKS):
        (length,) = unpack_at(">I", data, offset, "PNG chunk")
        chunk_type = data[offset + 4 : offset + 8]
        end = offset + length + _FRAMING_BYTES
        (checksum,) = unpack_at(">I", data, end - 4, f"PNG chunk {_name(chunk_type)} at byte {offset}")
        if zlib.crc32(view[offset + 4 : end - 4]) != checksum:
            raise ImageDecodeError(f"PNG chunk {_name(chunk_type)} at byte {offset} does not match its checksum")
        if chunk_type == b"IEND":
            return
        offset = end
    raise ImageDecodeError(f"PNG has more than {MAX_CHUNKS} chunks")


def _has_transparent_colour(data: bytes) -> bool:
    """Whether a tRNS chunk before the pixel data declares transparent colours."""
    pixels = data.find(b"IDAT")
    return data.find(b"tRNS", 0, pixels if pixels >= 0 else len(data)) >= 0


def _name(chunk_type: bytes) -> str:
    return chunk_type.decode("ascii", "backslashreplace")
