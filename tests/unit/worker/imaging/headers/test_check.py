"""Format and size of an image are checked before a codec sees it."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.core.errors import ImageDecodeError, ImageError, ImageFormatError, ImageTooLargeError
from worker.imaging.headers.check import check_header
from worker.imaging.headers.header import Header, ImageFormat, ImageLimits

PICTURES = Path(__file__).parents[4] / "data" / "pictures"
LIMITS = ImageLimits()


def encode(suffix: str, channels: int = 3, dtype: type = np.uint8) -> bytes:
    """Encode an image 13 pixels wide and 7 high."""
    picture = np.full((7, 13, channels), 200, dtype)
    return cv2.imencode(suffix, picture)[1].tobytes()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")


def jpeg(marker: int = 0xC0, precision: int = 8, components: int = 3, tail: bytes = b"\xff\xd9") -> bytes:
    frame = struct.pack(">BHHB", precision, 7, 13, components) + bytes(3 * components)
    return b"\xff\xd8\xff" + bytes([marker]) + struct.pack(">H", 2 + len(frame)) + frame + tail


WHOLE = {
    "jpeg": encode(".jpg"),
    "png": encode(".png"),
    "tiff": encode(".tif"),
    "webp": encode(".webp"),
    "bmp": encode(".bmp"),
}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode(".jpg"), Header(ImageFormat.JPEG, 13, 7)),
        (encode(".jpg", channels=1), Header(ImageFormat.JPEG, 13, 7)),
        (encode(".png"), Header(ImageFormat.PNG, 13, 7)),
        (encode(".png", channels=4, dtype=np.uint16), Header(ImageFormat.PNG, 13, 7, has_alpha=True)),
        (encode(".tif", dtype=np.uint16), Header(ImageFormat.TIFF, 13, 7)),
        (encode(".webp"), Header(ImageFormat.WEBP, 13, 7)),
        (encode(".bmp"), Header(ImageFormat.BMP, 13, 7)),
    ],
)
def test_header_of_opencvs_files(data: bytes, expected: Header) -> None:
    assert check_header(data, LIMITS) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cmyk.jpg", Header(ImageFormat.JPEG, 48, 32)),
        ("progressive.jpg", Header(ImageFormat.JPEG, 48, 32)),
        ("exif-orientation-6.jpg", Header(ImageFormat.JPEG, 48, 32)),
        ("keyed.png", Header(ImageFormat.PNG, 48, 32, has_alpha=True)),
        ("palette.png", Header(ImageFormat.PNG, 48, 32)),
        ("two-frames.webp", Header(ImageFormat.WEBP, 48, 32)),
        ("two-pages.tif", Header(ImageFormat.TIFF, 48, 32)),
    ],
)
def test_header_of_another_encoders_files(name: str, expected: Header) -> None:
    assert check_header((PICTURES / name).read_bytes(), LIMITS) == expected


def test_lossless_webp_header_has_the_alpha_flag() -> None:
    picture = np.full((7, 13, 4), 100, np.uint8)
    data = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    assert check_header(data, LIMITS) == Header(ImageFormat.WEBP, 13, 7, has_alpha=True)


def test_big_endian_tiff_and_core_bitmap_are_read() -> None:
    tags = [(256, 3, 1, 13), (257, 3, 1, 7), (258, 3, 1, 8), (273, 4, 1, 200), (279, 4, 1, 91)]
    entries = b"".join(
        struct.pack(">HHI", tag, kind, count)
        + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
        for tag, kind, count, value in tags
    )
    tiff = (b"MM\x00*" + struct.pack(">IH", 8, len(tags)) + entries).ljust(200 + 91, b"\0")
    assert check_header(tiff, LIMITS) == Header(ImageFormat.TIFF, 13, 7)
    bitmap = b"BM" + struct.pack("<IIII", 0, 0, 26, 12) + struct.pack("<HHHH", 13, 7, 1, 24) + bytes(40 * 7)
    assert check_header(bitmap, LIMITS) == Header(ImageFormat.BMP, 13, 7)


def test_decompression_bomb_is_refused_by_its_header() -> None:
    with pytest.raises(ImageTooLargeError, match=r"PNG of 30000 x 30000 = 900,000,000 pixels, limit 150,000,000"):
        check_header(png(30_000, 30_000), LIMITS)


def test_limits_are_inclusive() -> None:
    data = png(13, 7)
    assert check_header(data, ImageLimits(len(data), 91)) == Header(ImageFormat.PNG, 13, 7)
    with pytest.raises(ImageTooLargeError, match="pixels, limit 90"):
        check_header(data, ImageLimits(len(data), 90))
    with pytest.raises(ImageTooLargeError, match=f"{len(data)} bytes, limit {len(data) - 1}"):
        check_header(data, ImageLimits(len(data) - 1, 91))


@pytest.mark.parametrize("kind", sorted(WHOLE))
def test_every_truncated_file_is_refused(kind: str) -> None:
    whole = WHOLE[kind]
    for size in range(len(whole)):
        with pytest.raises((ImageDecodeError, ImageFormatError)):
            check_header(whole[:size], LIMITS)


def test_flipped_bit_in_a_png_is_reported_with_its_chunk() -> None:
    data = bytearray(WHOLE["png"])
    at = data.index(b"IDAT")
    data[at + 6] ^= 1
    with pytest.raises(ImageDecodeError, match=f"chunk IDAT at byte {at - 4} does not match its checksum"):
        check_header(bytes(data), LIMITS)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "the file is empty"),
        (
            b"GIF89a" + bytes(20),
            "first bytes are 47 49 46 38 39 61 00 00; accepted formats: JPEG, PNG, TIFF, WebP, BMP",
        ),
        (jpeg(marker=0xC3), "frame type C3"),
        (jpeg(marker=0xC9), "frame type C9"),
        (jpeg(precision=12), "12 bits"),
        (jpeg(components=2), "2 components"),
        (jpeg(components=4), "no Adobe segment"),
        (encode(".tif", dtype=np.float32), "32/32/32 bits"),
    ],
)
def test_unsupported_formats_and_codings_are_named(data: bytes, sentence: str) -> None:
    with pytest.raises(ImageFormatError, match=sentence):
        check_header(data, LIMITS)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (png(0, 7), "PNG header has an invalid size: 0 x 7 pixels"),
        (png(13, 7, depth=3), "colour type 2 with 3 bits"),
        (jpeg(tail=jpeg()[2:]), "second frame"),
        (b"\xff\xd8\xff\xda\x00\x02", "scan at byte 2 before any frame"),
        (b"\xff\xd8\xff\xe0\x00\x01", "length 1"),
        (b"\xff\xd8\xff\xd9", "without a frame"),
        (b"\xff\xd8" + b"\xff\x01" * 5000, "more than 4096 segments"),
        (b"RIFF\x04\x00\x00\x00WEBPALPH" + bytes(20), "unknown first chunk b'ALPH'"),
        (b"BM" + struct.pack("<IIII", 0, 0, 26, 13) + bytes(50), "BMP header is malformed: 13 bytes"),
    ],
)
def test_malformed_headers_are_reported_as_damage(data: bytes, sentence: str) -> None:
    with pytest.raises(ImageDecodeError, match=sentence):
        check_header(data, LIMITS)


@settings(max_examples=3000, deadline=None)
@given(
    whole=st.sampled_from(sorted(WHOLE.values())),
    changes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.integers(0, 300),
)
def test_random_damage_gives_a_header_or_an_image_error(whole: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(whole[: len(whole) - cut] if cut < len(whole) else whole)
    for at, value in changes:
        data[at % len(data)] = value
    try:
        header = check_header(bytes(data), LIMITS)
    except ImageError:
        return
    assert 1 <= header.width * header.height <= LIMITS.max_image_pixels


@pytest.mark.parametrize("tag", [256, 258, 259, 273, 279])
def test_tiff_tag_without_a_value_is_reported_as_damage(tag: int) -> None:
    data = bytearray(WHOLE["tiff"])
    directory = int.from_bytes(data[4:8], "little")
    entries = range(directory + 2, directory + 2 + 12 * int.from_bytes(data[directory : directory + 2], "little"), 12)
    at = next(at for at in entries if int.from_bytes(data[at : at + 2], "little") == tag)
    data[at + 4 : at + 8] = bytes(4)
    with pytest.raises(ImageDecodeError, match=f"TIFF tag {tag} has no value"):
        check_header(bytes(data), LIMITS)
