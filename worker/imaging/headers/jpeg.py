"""Read the header of a JPEG and walk its segments to the end marker, which a truncated file lacks."""

import numpy as np
from numpy.typing import NDArray

from worker.core.errors import ImageDecodeError, ImageFormatError
from worker.imaging.headers.header import Header, ImageFormat
from worker.imaging.headers.unpack import unpack_at

MAGIC = b"\xff\xd8\xff"
MAX_SEGMENTS = 4096
"""Bounds the walk over a file made of markers. A photograph has about ten segments, a progressive one a few dozen."""

_END, _SCAN = 0xD9, 0xDA
_WITHOUT_BODY = frozenset((0x01, *range(0xD0, 0xD9)))
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HUFFMAN_FRAMES = frozenset((0xC0, 0xC1, 0xC2))
_LOSSLESS_FRAMES = frozenset((0xC3,))
_ADOBE = 0xEE
_COMPONENTS = (1, 3, 4)
_IS_MARKER = np.ones(256, bool)
"""Whether FF followed by this byte ends a scan. FF 00 is a stuffed byte, FF D0 to FF D7 are restart markers."""
_IS_MARKER[[0x00, *range(0xD0, 0xD8), 0xFF]] = False
_WINDOW_BYTES = 2**16


def read_jpeg_header(data: bytes, *, lossless: bool = False) -> Header:
    """Return the header of a JPEG whose segments are complete (ITU-T T.81, annex B).

    lossless: read JPEG Lossless, which DICOM has, instead of what cameras write.
    Raises ImageDecodeError for a truncated or malformed file, ImageFormatError for a coding that fundus cameras do not
    write: lossless, arithmetic, 12 bit, CMYK of unknown polarity.
    """
    header: Header | None = None
    components = 0
    adobe = False
    buffer = np.frombuffer(data, np.uint8)
    offset = 2
    for _ in range(MAX_SEGMENTS):
        found = _find_marker(buffer, offset)
        if found is None:
            raise ImageDecodeError(f"JPEG truncated at byte {len(data)}: no end marker")
        marker, offset = data[found], found + 1
        if marker == _END:
            break
        if marker in _WITHOUT_BODY:
            continue
        (length,) = unpack_at(">H", data, offset, f"JPEG segment {marker:02X}")
        if length < 2:
            raise ImageDecodeError(f"JPEG segment {marker:02X} at byte {offset - 2} is malformed: length {length}")
        if marker in _FRAMES:
            if header is not None:
                raise ImageDecodeError(f"JPEG has a second frame at byte {offset - 2}")
            header, components = _read_frame(data, offset, marker, _LOSSLESS_FRAMES if lossless else _HUFFMAN_FRAMES)
        elif marker == _SCAN and header is None:
            raise ImageDecodeError(f"JPEG has a scan at byte {offset - 2} before any frame")
        elif marker == _ADOBE and data[offset + 2 : offset + 7] == b"Adobe":
            adobe = True
        offset += length
    else:
        raise ImageDecodeError(f"JPEG has more than {MAX_SEGMENTS} segments")
    if header is None:
        raise ImageDecodeError(f"JPEG ends at byte {offset} without a frame")
    if components == 4 and not adobe:
        raise ImageFormatError("JPEG has 4 components and no Adobe segment: the CMYK polarity is unknown")
    return header


def _find_marker(buffer: NDArray[np.uint8], offset: int) -> int | None:
    """Return the offset of the next marker's second byte. Ten times as fast as a regular expression."""
    for start in range(offset, len(buffer) - 1, _WINDOW_BYTES):
        window = buffer[start : start + _WINDOW_BYTES + 1]
        escapes = np.flatnonzero(window[:-1] == 0xFF)
        found = escapes[_IS_MARKER[window[escapes + 1]]]
        if len(found):
            return start + int(found[0]) + 1
    return None


def _read_frame(data: bytes, offset: int, marker: int, supported: frozenset[int]) -> tuple[Header, int]:
    _, precision, height, width, components = unpack_at(">HBHHB", data, offset, "JPEG frame")
    if marker not in supported:
        names = "C3 (lossless)" if supported is _LOSSLESS_FRAMES else "C0 to C2 (Huffman coding)"
        raise ImageFormatError(f"JPEG frame type {marker:02X} is not supported; supported: {names}")
    if precision != 8:
        raise ImageFormatError(f"JPEG with {precision} bits per sample is not supported; supported: 8")
    if components not in _COMPONENTS:
        raise ImageFormatError(f"JPEG with {components} components is not supported; supported: 1, 3 or 4")
    return Header(ImageFormat.JPEG, width, height), components
