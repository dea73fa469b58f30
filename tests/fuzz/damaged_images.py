"""Seed images in every accepted format and its variants, and random damage to them."""

import random
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

from tests.services.dicom_files import LOSSLESS_SYNTAXES, wrap_jpeg, wrap_pixels
from worker.core.dicom.transfer_syntaxes import META_OFFSET, is_dicom

PICTURES = Path(__file__).parents[1] / "data" / "pictures"
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
SIDE = 96
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def make_seed_images() -> dict[str, list[bytes]]:
    """Return valid images by format, each a bright disc on black."""
    fundus = _draw_fundus()
    grey, deep = np.ascontiguousarray(fundus[..., 1]), fundus.astype(np.uint16) * 257
    alpha = np.dstack([fundus, np.full(fundus.shape[:2], 200, np.uint8)])
    tiff = [[cv2.IMWRITE_TIFF_COMPRESSION, kind] for kind in (1, 5, 8, 32773)]
    return {
        "JPEG": [
            _encode(".jpg", fundus),
            _encode(".jpg", grey),
            _encode(".jpg", fundus, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
            _encode(".jpg", fundus, [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]),
            *_stored("*.jpg"),
        ],
        "PNG": [_encode(".png", picture) for picture in (fundus, grey, deep, alpha)] + _stored("*.png"),
        "TIFF": [_encode(".tif", fundus, options) for options in tiff]
        + [_encode(".tif", deep, tiff[1]), *_stored("*.tif")],
        "WebP": [_encode(".webp", fundus, [cv2.IMWRITE_WEBP_QUALITY, quality]) for quality in (60, 101)]
        + [_encode(".webp", alpha), *_stored("*.webp")],
        "BMP": [_encode(".bmp", picture) for picture in (fundus, grey, alpha)],
        "DICOM": [
            wrap_jpeg(_encode(".jpg", fundus)),
            *(wrap_jpeg(jpeg) for jpeg in _stored("exif*.jpg")),
            *(wrap_pixels(picture, syntax) for syntax in LOSSLESS_SYNTAXES for picture in (fundus, grey)),
            *(wrap_pixels(fundus, syntax, PhotometricInterpretation="YBR_FULL") for syntax in LOSSLESS_SYNTAXES),
            wrap_pixels(np.ascontiguousarray(deep[..., 1]), WindowCenter="30000", WindowWidth="60000"),
            wrap_pixels(
                grey,
                PhotometricInterpretation="PALETTE COLOR",
                **{f"{colour}PaletteColorLookupTableDescriptor": [256, 0, 8] for colour in ("Red", "Green", "Blue")},
                **{f"{colour}PaletteColorLookupTableData": bytes(range(256)) for colour in ("Red", "Green", "Blue")},
            ),
        ],
    }


def mutate(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Damage an image in one to six places. Half of the PNGs get valid checksums, to pass the first check.

    The preamble of a DICOM file, which nothing reads, and the four bytes that make it one stay.
    """
    start = META_OFFSET if is_dicom(data) else 0
    damaged = bytearray(data[start:])
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        _damage(damaged, others, rng)
    if damaged.startswith(PNG_MAGIC) and rng.random() < 0.5:
        return _fix_png_checksums(bytes(damaged))
    return data[:start] + bytes(damaged)


def _damage(data: bytearray, others: list[bytes], rng: random.Random) -> None:
    # Half of the damage is near the start, where the headers are.
    at = rng.randrange(len(data) + 1) if rng.random() < 0.5 else rng.randrange(min(len(data), 200) + 1)
    size = min(rng.choice((1, 2, 4, 16, 256)), len(data) - at)
    match rng.randrange(7):
        case 0:
            for index in range(at, at + size):
                data[index] ^= 1 << rng.randrange(8)
        case 1:
            data[at : at + size] = rng.randbytes(size)
        case 2:
            order, width = rng.choice("<>"), rng.choice("BHI")
            value = rng.choice(EDGES) & (2 ** (8 * struct.calcsize(width)) - 1)
            packed = struct.pack(order + width, value)
            data[at : at + len(packed)] = packed
        case 3:
            del data[at : at + size]
        case 4:
            data[at:at] = data[at : at + size] * rng.choice((1, 2, 50))
        case 5:
            del data[at:]
        case _:
            other = rng.choice(others)
            start = rng.randrange(len(other))
            data[at:at] = other[start : start + rng.choice((8, 64, 1024))]


def _fix_png_checksums(data: bytes) -> bytes:
    fixed, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + size > len(data):
            break
        chunk = data[at + 4 : at + 8 + size]
        fixed += data[at : at + 4] + chunk + struct.pack(">I", zlib.crc32(chunk))
        at += 12 + size
    return bytes(fixed) + data[at:]


def _draw_fundus() -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    inside = np.hypot(rows, columns) < SIDE * 0.45
    texture = np.random.default_rng(0).integers(60, 200, (SIDE, SIDE, 3), np.uint8)
    return np.where(inside[..., None], cv2.GaussianBlur(texture, (0, 0), 2), np.uint8(0))


def _encode(suffix: str, picture: np.ndarray, options: list[int] | None = None) -> bytes:
    succeeded, encoded = cv2.imencode(suffix, picture, options or [])
    assert succeeded, suffix
    return encoded.tobytes()


def _stored(pattern: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(PICTURES.glob(pattern))]
