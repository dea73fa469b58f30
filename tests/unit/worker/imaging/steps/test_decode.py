"""Every accepted variant is decoded to upright 8-bit RGB; every damaged file is refused."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from worker.core.errors import ImageDecodeError, ImageFormatError
from worker.imaging.headers.header import Header, ImageFormat, ImageLimits
from worker.imaging.photograph import Photograph
from worker.imaging.steps.decode import choose_downscale_factor, decode_photograph

DATA = Path(__file__).parents[4] / "data"
PICTURES = DATA / "pictures"
FULL_SIZE = (DATA / "fundus" / "IDRiD_018.jpg").read_bytes()
IEND = bytes.fromhex("00000000 49454e44 ae426082")
GREEN, ORANGE = (20, 160, 80), (200, 90, 30)


def decode(data: bytes, cover_px: int = 10_000) -> Photograph:
    return decode_photograph(data, cover_px=cover_px, limits=ImageLimits())


def encode(suffix: str, picture: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    return cv2.imencode(suffix, picture)[1].tobytes()


def quarters(rgb: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    """Colours near the corners: upper left, upper right, lower left, lower right."""
    return [tuple(map(int, rgb[y, x])) for y in (3, -4) for x in (3, -4)]


def assert_quarters(rgb: NDArray[np.uint8], expected: list[tuple[int, int, int]], tolerance: int = 0) -> None:
    assert np.abs(np.subtract(quarters(rgb), expected)).max() <= tolerance


@pytest.mark.parametrize("name", ["palette.png", "two-frames.png", "two-frames.webp", "two-pages.tif"])
def test_first_frame_or_page_is_decoded_exactly(name: str) -> None:
    rgb = decode((PICTURES / name).read_bytes()).rgb
    assert rgb.shape == (32, 48, 3)
    assert_quarters(rgb, [GREEN, ORANGE, ORANGE, ORANGE])


@pytest.mark.parametrize("name", ["cmyk.jpg", "progressive.jpg"])
def test_cmyk_and_progressive_jpegs_keep_their_colours(name: str) -> None:
    assert_quarters(decode((PICTURES / name).read_bytes()).rgb, [GREEN, ORANGE, ORANGE, ORANGE], tolerance=2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("exif-orientation-6.jpg", [ORANGE, GREEN, ORANGE, ORANGE]),
        ("exif-orientation-6.tif", [ORANGE, GREEN, ORANGE, ORANGE]),
        ("exif-orientation-8.jpg", [ORANGE, ORANGE, GREEN, ORANGE]),
    ],
)
def test_exif_orientation_is_applied(name: str, expected: list[tuple[int, int, int]]) -> None:
    rgb = decode((PICTURES / name).read_bytes()).rgb
    assert rgb.shape == (48, 32, 3)
    assert_quarters(rgb, expected, tolerance=2)


def test_transparency_is_composited_over_black() -> None:
    picture = np.full((6, 6, 4), 200, np.uint8)
    picture[..., 3] = [[0], [0], [128], [128], [255], [255]]
    expected = np.repeat([0, 0, 100, 100, 200, 200], 18).reshape(6, 6, 3)
    assert np.array_equal(decode(encode(".png", picture)).rgb, expected)
    assert np.array_equal(decode(encode(".png", picture.astype(np.uint16) * 257)).rgb, expected)
    assert_quarters(decode((PICTURES / "keyed.png").read_bytes()).rgb, [GREEN, (0, 0, 0), (0, 0, 0), (0, 0, 0)])


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_grey_becomes_rgb(suffix: str) -> None:
    picture = np.arange(48, dtype=np.uint8).reshape(6, 8)
    rgb = decode(encode(suffix, picture)).rgb
    assert np.array_equal(rgb, np.stack([picture] * 3, axis=2))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_scaled_to_eight(suffix: str) -> None:
    grey = np.arange(0, 65536, 257, np.uint16).reshape(16, 16)
    assert np.array_equal(decode(encode(suffix, grey)).rgb[..., 1], np.arange(256).reshape(16, 16))


@pytest.mark.parametrize(
    ("cover_px", "scale", "shape"),
    [
        (356, 1 / 8, (356, 536)),
        (357, 1 / 4, (712, 1072)),
        (712, 1 / 4, (712, 1072)),
        (713, 1 / 2, (1424, 2144)),
        (1425, 1.0, (2848, 4288)),
        (9999, 1.0, (2848, 4288)),
    ],
)
def test_jpeg_is_decoded_no_larger_than_needed(cover_px: int, scale: float, shape: tuple[int, int]) -> None:
    photograph = decode(FULL_SIZE, cover_px)
    assert (photograph.scale, photograph.rgb.shape[:2]) == (scale, shape)


def test_odd_sides_round_up_and_other_formats_are_decoded_at_full_size() -> None:
    picture = np.full((35, 51, 3), 90, np.uint8)
    assert decode(encode(".jpg", picture), cover_px=17).rgb.shape == (18, 26, 3)
    assert choose_downscale_factor(Header(ImageFormat.JPEG, 51, 35), 17) == 2
    assert choose_downscale_factor(Header(ImageFormat.PNG, 51, 35), 17) == 1


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_truncated_jpeg_is_reported_with_the_byte(share: float) -> None:
    size = int(len(FULL_SIZE) * share)
    with pytest.raises(ImageDecodeError, match=f"truncated at byte {size}: no end marker") as caught:
        decode(FULL_SIZE[:size])
    assert caught.value.code == "image_damaged"


def test_jpeg_with_a_damaged_scan_and_an_end_marker_is_refused() -> None:
    half = len(FULL_SIZE) // 2
    with pytest.raises(ImageDecodeError, match="premature end of data segment"):
        decode(FULL_SIZE[:half] + b"\xff\xd9", 500)
    with pytest.raises(ImageDecodeError, match="Corrupt JPEG data"):
        decode(FULL_SIZE[:half] + bytes(3000) + FULL_SIZE[half + 3000 :], 500)


def test_bytes_after_the_end_marker_are_ignored() -> None:
    assert np.array_equal(decode(FULL_SIZE + b"trailer", 300).rgb, decode(FULL_SIZE, 300).rgb)


def test_png_with_invalid_pixel_data_is_refused_with_the_codecs_reason() -> None:
    data = encode(".png", np.full((7, 13, 3), 200, np.uint8))
    at = data.index(b"IDAT")
    nonsense = b"IDAT" + bytes(20)
    damaged = data[: at - 4] + struct.pack(">I", 20) + nonsense + struct.pack(">I", zlib.crc32(nonsense)) + IEND
    with pytest.raises(ImageDecodeError, match="PNG of 13 x 7 pixels cannot be decoded: libpng error"):
        decode(damaged)


def test_text_is_not_an_image() -> None:
    with pytest.raises(ImageFormatError, match="accepted formats: JPEG, PNG, TIFF, WebP, BMP"):
        decode(b"This is text in a file named like an image.")
