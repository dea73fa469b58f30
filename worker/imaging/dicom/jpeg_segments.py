"""Rewrite the head of an encapsulated JPEG: without metadata, and with the colours that the DICOM header names.

The metadata may hold a place, a name or an orientation, which DICOM viewers ignore: a picture turned by it would not
match the overlay in a viewer.
"""

from worker.core.errors import ImageDecodeError
from worker.imaging.headers.jpeg import MAX_SEGMENTS
from worker.imaging.headers.unpack import unpack_at

START = b"\xff\xd8"
ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
"""An Adobe segment whose last byte says that the components are stored as they are, not as YCbCr."""
_SCAN, _END, _JFIF, _ADOBE, _COMMENT = 0xDA, 0xD9, 0xE0, 0xEE, 0xFE
_APPLICATION = range(0xE0, 0xF0)
_COLOUR_MARKS = {_JFIF: b"JFIF", _ADOBE: b"Adobe"}


def clean_jpeg(data: bytes, *, is_rgb: bool, is_lossless: bool) -> bytes:
    """Return the JPEG without comments and application segments other than JFIF and Adobe.

    is_rgb: without either of these, decoders take components 1, 2 and 3 for YCbCr, and show RGB in green and pink; an
    Adobe segment says what they are. is_lossless: the decoder shall convert no colours; see `render`.
    Raises ImageDecodeError for a malformed head.
    """
    if not data.startswith(START):
        raise ImageDecodeError(f"JPEG frame is malformed: first bytes are {data[:2].hex(' ')}")
    kept, offset, is_marked = [], len(START), False
    for _ in range(MAX_SEGMENTS):
        fill, marker = unpack_at(">BB", data, offset, "JPEG segment")
        if fill != 0xFF:
            raise ImageDecodeError(f"JPEG frame is malformed: no marker at byte {offset}")
        if marker == 0xFF:
            offset += 1
            continue
        if marker == _SCAN:
            break
        if marker == _END:
            raise ImageDecodeError(f"JPEG frame ends at byte {offset} without a scan")
        (length,) = unpack_at(">H", data, offset + 2, "JPEG segment")
        segment = data[offset : offset + 2 + length]
        name = _COLOUR_MARKS.get(marker)
        marks = name is not None and segment[4 : 4 + len(name)] == name
        is_marked = is_marked or marks
        if (marks and not is_lossless) or (marker not in _APPLICATION and marker != _COMMENT):
            kept.append(segment)
        offset += 2 + length
    else:
        raise ImageDecodeError(f"JPEG frame has more than {MAX_SEGMENTS} segments")
    mark = ADOBE_RGB if is_lossless or (is_rgb and not is_marked) else b""
    return b"".join((START, mark, *kept, data[offset:]))
