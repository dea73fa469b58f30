"""Read the size of a TIFF's first picture, and check that its pixels are all there."""

import struct

from worker.core.errors import ImageDecodeError, ImageFormatError
from worker.imaging.headers.header import Header, ImageFormat
from worker.imaging.headers.unpack import unpack_at

MAGICS = (b"II*\x00", b"MM\x00*")

_WIDTH, _HEIGHT, _BITS, _COMPRESSION = 256, 257, 258, 259
_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES = 273, 279, 324, 325
_EXTRA_SAMPLES, _SAMPLE_FORMAT = 338, 339
_WANTED = frozenset((_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES, _EXTRA_SAMPLES))
_INTEGERS = {1: "B", 3: "H", 4: "I"}
_ENTRY_BYTES = 12
_COMPRESSIONS = (1, 5, 7, 8, 32773, 32946)
"""None, LZW, JPEG, Deflate, PackBits and Deflate's old number."""
_UNSIGNED = 1


def read_tiff_header(data: bytes) -> Header:
    """Header of a TIFF 6.0 file's first directory.

    Raises ImageDecodeError for a file that breaks off or lacks a size, ImageFormatError for compressions and
    sample types that fundus cameras do not write.
    """
    order = "<" if data[:1] == b"I" else ">"
    (directory,) = unpack_at(f"{order}I", data, 4, "TIFF header")
    (entries,) = unpack_at(f"{order}H", data, directory, "TIFF directory")
    tags: dict[int, tuple[int, ...]] = {}
    for at in range(directory + 2, directory + 2 + entries * _ENTRY_BYTES, _ENTRY_BYTES):
        tag, kind, count = unpack_at(f"{order}HHI", data, at, "TIFF directory")
        if (tag in _WANTED or tag == _SAMPLE_FORMAT) and kind in _INTEGERS:
            if count == 0:
                raise ImageDecodeError(f"TIFF tag {tag} has no value")
            tags[tag] = _values(data, order, at + 8, _INTEGERS[kind], count)
    width, height = _first(tags, _WIDTH), _first(tags, _HEIGHT)
    compression = tags.get(_COMPRESSION, (1,))[0]
    if compression not in _COMPRESSIONS:
        raise ImageFormatError(f"TIFF compression {compression} is not read")
    bits = tags.get(_BITS, (1,))
    if not set(bits) <= {8} and not set(bits) <= {16}:
        raise ImageFormatError(f"TIFF has {'/'.join(map(str, bits[:4]))} bits a sample; 8 or 16 are read")
    if any(sample != _UNSIGNED for sample in tags.get(_SAMPLE_FORMAT, ())):
        raise ImageFormatError("TIFF samples are signed or floating; unsigned integers are read")
    _check_pixels(data, tags)
    return Header(ImageFormat.TIFF, width, height, has_alpha=_EXTRA_SAMPLES in tags)


def _values(data: bytes, order: str, at: int, letter: str, count: int) -> tuple[int, ...]:
    if count * struct.calcsize(letter) > 4:
        (at,) = unpack_at(f"{order}I", data, at, "TIFF directory")
    return unpack_at(f"{order}{count}{letter}", data, at, "TIFF directory")


def _first(tags: dict[int, tuple[int, ...]], tag: int) -> int:
    values = tags.get(tag)
    if not values:
        raise ImageDecodeError(f"TIFF lacks tag {tag}")
    return values[0]


def _check_pixels(data: bytes, tags: dict[int, tuple[int, ...]]) -> None:
    offsets = tags.get(_STRIPS) or tags.get(_TILES) or ()
    lengths = tags.get(_STRIP_BYTES) or tags.get(_TILE_BYTES) or ()
    if not offsets or len(offsets) != len(lengths):
        raise ImageDecodeError(f"TIFF names {len(offsets)} parts and {len(lengths)} lengths of them")
    end = max(offset + length for offset, length in zip(offsets, lengths, strict=True))
    if end > len(data):
        raise ImageDecodeError(f"TIFF breaks off at byte {len(data)} of {end}")
