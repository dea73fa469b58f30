"""Read the header of the first image in a TIFF and check that its pixel data is complete."""

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
"""Uncompressed, LZW, JPEG, Deflate, PackBits, and the old code of Deflate."""
_UNSIGNED = 1


def read_tiff_header(data: bytes) -> Header:
    """Return the header of the first image file directory (TIFF 6.0).

    Raises ImageDecodeError for a truncated or malformed file, ImageFormatError for a compression or sample type that
    fundus cameras do not write.
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
        raise ImageFormatError(f"TIFF compression {compression} is not supported")
    bits = tags.get(_BITS, (1,))
    if not set(bits) <= {8} and not set(bits) <= {16}:
        raise ImageFormatError(
            f"TIFF with {'/'.join(map(str, bits[:4]))} bits per sample is not supported; supported: 8 or 16"
        )
    if any(sample != _UNSIGNED for sample in tags.get(_SAMPLE_FORMAT, ())):
        raise ImageFormatError(
            "TIFF with signed or floating-point samples is not supported; supported: unsigned integers"
        )
    _check_pixels(data, tags)
    return Header(ImageFormat.TIFF, width, height, has_alpha=_EXTRA_SAMPLES in tags)


def _values(data: bytes, order: str, at: int, letter: str, count: int) -> tuple[int, ...]:
    if count * struct.calcsize(letter) > 4:
        (at,) = unpack_at(f"{order}I", data, at, "TIFF directory")
    return unpack_at(f"{order}{count}{letter}", data, at, "TIFF directory")


def _first(tags: dict[int, tuple[int, ...]], tag: int) -> int:
    values = tags.get(tag)
    if not values:
        raise ImageDecodeError(f"TIFF tag {tag} is missing")
    return values[0]


def _check_pixels(data: bytes, tags: dict[int, tuple[int, ...]]) -> None:
    offsets = tags.get(_STRIPS) or tags.get(_TILES) or ()
    lengths = tags.get(_STRIP_BYTES) or tags.get(_TILE_BYTES) or ()
    if not offsets or len(offsets) != len(lengths):
        raise ImageDecodeError(f"TIFF has {len(offsets)} strip or tile offsets and {len(lengths)} byte counts")
    end = max(offset + length for offset, length in zip(offsets, lengths, strict=True))
    if end > len(data):
        raise ImageDecodeError(f"TIFF truncated at byte {len(data)} of {end}")
