"""Read the headers of JPEG 2000 and JPEG-LS codestreams, as DICOM encapsulates them, before a codec does."""

from dataclasses import dataclass

from worker.core.errors import ImageDecodeError, ImageFormatError
from worker.imaging.headers.unpack import unpack_at

MAX_SEGMENTS = 256
_JPEG_2000_MAGIC, _JPEG_LS_MAGIC = b"\xff\x4f\xff\x51", b"\xff\xd8\xff"
_CODING_STYLE, _TILE_PART, _JPEG_LS_FRAME, _SCAN = 0xFF52, 0xFF90, 0xFFF7, 0xFFDA
_END = b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class Codestream:
    """What a codestream declares. is_rgb: the decoder converts its components to RGB."""

    width: int
    height: int
    components: int
    bits: int
    is_rgb: bool = False


def read_jpeg_2000(data: bytes) -> Codestream:
    """Return what a JPEG 2000 codestream declares (ITU-T T.800, annex A).

    Raises ImageDecodeError for a truncated or malformed one, ImageFormatError for subsampled or signed components.
    """
    if not data.startswith(_JPEG_2000_MAGIC):
        raise ImageDecodeError(f"JPEG 2000 frame is malformed: first bytes are {data[:4].hex(' ')}")
    _check_end(data, "JPEG 2000")
    size_bytes, right, bottom, left, top = unpack_at(">H2xIIII", data, 4, "JPEG 2000 size")
    (components,) = unpack_at(">H", data, 40, "JPEG 2000 size")
    kinds = {unpack_at(">BBB", data, 42 + 3 * at, "JPEG 2000 component") for at in range(min(components, 4))}
    if len(kinds) != 1 or not {(kind[0] < 16, *kind[1:]) for kind in kinds} == {(True, 1, 1)}:
        raise ImageFormatError("JPEG 2000 with signed or subsampled components is not supported")
    bits = kinds.pop()[0] + 1
    is_rgb = _has_colour_transform(data, 4 + size_bytes)
    return Codestream(right - left, bottom - top, components, bits, is_rgb)


def read_jpeg_ls(data: bytes) -> Codestream:
    """Return what a JPEG-LS codestream declares (ITU-T T.87). Raises ImageDecodeError for a malformed one."""
    if not data.startswith(_JPEG_LS_MAGIC):
        raise ImageDecodeError(f"JPEG-LS frame is malformed: first bytes are {data[:3].hex(' ')}")
    _check_end(data, "JPEG-LS")
    offset = 2
    for _ in range(MAX_SEGMENTS):
        marker, length = unpack_at(">HH", data, offset, "JPEG-LS segment")
        if marker == _JPEG_LS_FRAME:
            bits, height, width, components = unpack_at(">BHHB", data, offset + 4, "JPEG-LS frame")
            return Codestream(width, height, components, bits)
        if marker == _SCAN or length < 2:
            break
        offset += 2 + length
    raise ImageDecodeError("JPEG-LS frame has no frame header")


def _check_end(data: bytes, name: str) -> None:
    # A fragment has an even length, so a zero may follow.
    if not data.rstrip(b"\0").endswith(_END):
        raise ImageDecodeError(f"{name} truncated at byte {len(data)}: no end marker")


def _has_colour_transform(data: bytes, offset: int) -> bool:
    for _ in range(MAX_SEGMENTS):
        marker, length = unpack_at(">HH", data, offset, "JPEG 2000 segment")
        if marker == _CODING_STYLE:
            return unpack_at(">B", data, offset + 8, "JPEG 2000 coding style") == (1,)
        if marker == _TILE_PART:
            break
        offset += 2 + length
    raise ImageDecodeError("JPEG 2000 frame has no coding style")
