"""DICOM photographs are decoded to the pixels of the same photograph as an image file; other instances are refused."""

import struct
import sys
import zlib
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.services.dicom_files import (
    LOSSLESS_SYNTAXES,
    encode_jpeg_2000,
    encode_jpeg_lossless,
    encode_jpeg_ls,
    make_code,
    make_header,
    wrap_jpeg,
    wrap_pixels,
    write_dicom,
)
from worker.core.dicom.file_header import load_pydicom
from worker.core.errors import (
    ImageDecodeError,
    ImageError,
    ImageFormatError,
    ImageTooLargeError,
    NotAPhotographError,
)
from worker.core.vocabulary import DicomAdmission
from worker.imaging.headers.check import check_header
from worker.imaging.headers.header import Header, ImageFormat, ImageLimits
from worker.imaging.photograph import Photograph
from worker.imaging.steps.decode import decode_photograph

DATA = Path(__file__).parents[4] / "data"
FULL_SIZE = (DATA / "fundus" / "IDRiD_018.jpg").read_bytes()
ORIENTATION_6 = (DATA / "pictures" / "exif-orientation-6.jpg").read_bytes()
MARK = "ZZMARK"


def decode(data: bytes, admitted: Collection[DicomAdmission] = (), cover_px: int = 10_000) -> Photograph:
    return decode_photograph(data, cover_px=cover_px, limits=ImageLimits(), admitted=admitted)


@cache
def photograph() -> NDArray[np.uint8]:
    """Return a small colour photograph with an odd width, RGB."""
    full = cv2.imdecode(np.frombuffer(FULL_SIZE, np.uint8), cv2.IMREAD_REDUCED_COLOR_8)
    return np.ascontiguousarray(full[40:140, 60:211, ::-1])


def refuse(data: bytes, admitted: Collection[DicomAdmission] = ()) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(data, admitted)
    return caught.value


@pytest.mark.parametrize("syntax", LOSSLESS_SYNTAXES)
def test_lossless_syntaxes_give_the_pixels_of_the_photograph(syntax: str) -> None:
    assert np.array_equal(decode(wrap_pixels(photograph(), syntax)).rgb, photograph())


@pytest.mark.parametrize("cover_px", [10_000, 512, 300])
def test_jpeg_in_dicom_is_decoded_as_the_file_is_at_every_scale(cover_px: int) -> None:
    alone, wrapped = decode(FULL_SIZE, cover_px=cover_px), decode(wrap_jpeg(FULL_SIZE), cover_px=cover_px)
    assert np.array_equal(alone.rgb, wrapped.rgb)
    assert alone.scale == wrapped.scale == {10_000: 1, 512: 0.25, 300: 0.125}[cover_px]


def test_declared_size_is_found_without_a_library() -> None:
    assert check_header(wrap_jpeg(FULL_SIZE), ImageLimits()) == Header(ImageFormat.DICOM, 4288, 2848)
    assert check_header(wrap_pixels(photograph(), LOSSLESS_SYNTAXES[0]), ImageLimits()).width == 151


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_16_bits_are_scaled_by_their_range(syntax: str) -> None:
    deep = photograph().astype(np.uint16) * 257
    assert np.array_equal(decode(wrap_pixels(deep, syntax)).rgb, photograph())


def test_exif_orientation_within_the_frame_is_ignored() -> None:
    rgb = decode(wrap_jpeg(ORIENTATION_6)).rgb
    assert decode(ORIENTATION_6).rgb.shape == (48, 32, 3)
    assert rgb.shape == (32, 48, 3)
    assert np.array_equal(rgb, cv2.imdecode(np.frombuffer(ORIENTATION_6, np.uint8), 128 | cv2.IMREAD_COLOR_RGB))


def rgb_jpeg(rgb: NDArray[np.uint8]) -> bytes:
    """Encode RGB as a JPEG without conversion, with component ids 1 to 3 and without any marker of its colours.

    The encoder converts what it takes for RGB to YCbCr, so it is given the inverse of that.
    """
    ycc = cv2.merge([rgb[..., 0], rgb[..., 2], rgb[..., 1]])
    stored = cv2.cvtColor(ycc, cv2.COLOR_YCrCb2BGR)
    options = [cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    data = cv2.imencode(".jpg", stored, options)[1].tobytes()
    assert data[2:4] == b"\xff\xe0"
    return data[:2] + data[4 + int.from_bytes(data[4:6], "big") :]


def test_rgb_jpeg_without_a_marker_keeps_its_colours() -> None:
    # The least saturated colours survive the detour over YCbCr, which has fewer.
    soft = (photograph() // 4 + 96).astype(np.uint8)
    jpeg = rgb_jpeg(soft)
    assert np.abs(decode(wrap_jpeg(jpeg, PhotometricInterpretation="RGB")).rgb.astype(int) - soft).mean() < 1
    # Shown as YCbCr, as a decoder would take it, it is of other colours.
    assert np.abs(decode(wrap_jpeg(jpeg)).rgb.astype(int) - soft).mean() > 25


def test_jfif_that_is_called_rgb_keeps_its_colours() -> None:
    wrapped = wrap_jpeg(FULL_SIZE, PhotometricInterpretation="RGB")
    assert np.array_equal(decode(wrapped, cover_px=512).rgb, decode(FULL_SIZE, cover_px=512).rgb)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEGLosslessSV1])
def test_ybr_full_is_converted(syntax: str) -> None:
    luma, red, blue = cv2.split(cv2.cvtColor(photograph(), cv2.COLOR_RGB2YCrCb))
    stored = np.ascontiguousarray(cv2.merge((luma, blue, red)))
    rgb = decode(wrap_pixels(stored, syntax, PhotometricInterpretation="YBR_FULL")).rgb
    assert np.abs(rgb.astype(int) - photograph()).max() <= 2


def test_jpeg_2000_with_its_own_transform_is_not_converted_twice() -> None:
    wrapped = wrap_pixels(photograph(), JPEG2000Lossless, PhotometricInterpretation="YBR_RCT")
    assert np.array_equal(decode(wrapped).rgb, photograph())


def test_native_422_has_its_colours() -> None:
    pixels = photograph()[:, :150]
    luma, red, blue = cv2.split(cv2.cvtColor(np.repeat(pixels[:, ::2], 2, axis=1), cv2.COLOR_RGB2YCrCb))
    stored = np.dstack([luma[:, ::2], luma[:, 1::2], blue[:, ::2], red[:, ::2]]).astype(np.uint8)
    header = make_header(
        Rows=100, Columns=150, SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation="YBR_FULL_422"
    )
    header.PixelData = stored.tobytes()
    header["PixelData"].VR = "OB"
    rgb = decode(write_dicom(header, ExplicitVRLittleEndian)).rgb
    assert np.abs(rgb[:, ::2].astype(int) - pixels[:, ::2]).max() <= 2


def test_planes_are_interleaved() -> None:
    planes = np.ascontiguousarray(photograph().transpose(2, 0, 1))
    header = make_header(
        Rows=100, Columns=151, SamplesPerPixel=3, PlanarConfiguration=1, PhotometricInterpretation="RGB"
    )
    header.PixelData = planes.tobytes()
    header["PixelData"].VR = "OB"
    assert np.array_equal(decode(write_dicom(header, ExplicitVRLittleEndian)).rgb, photograph())


def test_palette_is_looked_up() -> None:
    index = np.arange(48, dtype=np.uint8).reshape(6, 8)
    tables: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, value in (("Red", 200), ("Green", 90), ("Blue", 30)):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 8]
        tables[f"{name}PaletteColorLookupTableData"] = bytes([0] * 40 + [value] * 216)
    rgb = decode(wrap_pixels(index, **tables)).rgb
    assert rgb[4, 7].tolist() == [0, 0, 0]
    assert rgb[5, 0].tolist() == [200, 90, 30]


GREY = {DicomAdmission.MONOCHROME}


def test_admitted_grey_becomes_rgb() -> None:
    grey = np.ascontiguousarray(photograph()[..., 1])
    expected = np.stack([grey] * 3, axis=2)
    for syntax in LOSSLESS_SYNTAXES:
        assert np.array_equal(decode(wrap_pixels(grey, syntax), GREY).rgb, expected)
        inverted = wrap_pixels(grey, syntax, PhotometricInterpretation="MONOCHROME1")
        assert np.array_equal(decode(inverted, GREY).rgb, 255 - expected)
    jpeg = cv2.imencode(".jpg", grey)[1].tobytes()
    shown = decode(wrap_jpeg(jpeg, SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME1"), GREY).rgb
    assert np.array_equal(shown, 255 - decode(jpeg).rgb)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        # PS3.3, C.11.2.1.2: ((x - (c - 0.5)) / (w - 1) + 0.5) * 255
        ({"WindowCenter": "2000.5", "WindowWidth": "1001"}, [0, 0, 128, 255, 255]),
        ({"WindowCenter": "2000", "WindowWidth": "1000", "VOILUTFunction": "LINEAR_EXACT"}, [0, 0, 128, 255, 255]),
        ({"WindowCenter": "2000", "WindowWidth": "1000", "VOILUTFunction": "SIGMOID"}, [0, 30, 128, 225, 255]),
        ({"WindowCenter": "1001", "WindowWidth": "501", "RescaleSlope": "0.5", "RescaleIntercept": "0"},
         [0, 0, 127, 255, 255]),
        ({}, [0, 93, 125, 156, 255]),
    ],
)  # fmt: skip
def test_deep_grey_is_windowed(window: dict[str, str], expected: list[int]) -> None:
    values = np.array([[0, 1500, 2000, 2500, 4095]], np.uint16)
    data = wrap_pixels(values, BitsStored=12, HighBit=11, **window)
    assert decode(data, GREY).rgb[0, :, 0].tolist() == expected


def test_first_frame_of_several_is_decoded_if_admitted() -> None:
    jpeg = cv2.imencode(".jpg", photograph()[..., ::-1])[1].tobytes()
    other = cv2.imencode(".jpg", np.zeros_like(photograph()))[1].tobytes()
    header = make_header(
        NumberOfFrames=2, Rows=100, Columns=151, SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL_422"
    )
    header.PixelData = encapsulate([jpeg, other])
    data = write_dicom(header, JPEGBaseline8Bit)
    assert refuse(data).code == "dicom_frames"
    assert np.array_equal(decode(data, {DicomAdmission.MULTI_FRAME}).rgb, decode(jpeg).rgb)
    native = wrap_pixels(photograph())
    header = make_header(
        NumberOfFrames=2, Rows=100, Columns=151, SamplesPerPixel=3, PlanarConfiguration=0,
        PhotometricInterpretation="RGB",
    )  # fmt: skip
    header.PixelData = photograph().tobytes() + bytes(photograph().nbytes)
    header["PixelData"].VR = "OB"
    two = write_dicom(header, ExplicitVRLittleEndian)
    assert np.array_equal(decode(two, {DicomAdmission.MULTI_FRAME}).rgb, decode(native).rgb)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.5.4"}, "dicom_class"),
        ({"ManufacturerModelName": "fundus-grading"}, "dicom_own_output"),
        ({"ImageType": ["DERIVED", "SECONDARY"]}, "dicom_derived"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "", "REDFREE"]}, "dicom_filter"),
        ({"LightPathFilterTypeStackCodeSequence": [make_code("445465004")]}, "dicom_filter"),
        ({"ContrastBolusAgent": "Fluorescein"}, "dicom_filter"),
        ({"AcquisitionDeviceTypeCodeSequence": [make_code("409903006")]}, "dicom_device"),
        ({"AnatomicRegionSequence": [make_code("41296002")]}, "dicom_region"),
        ({"Laterality": "L"}, "dicom_laterality"),
    ],
)
def test_other_instances_are_refused_by_their_header(changed: dict[str, Any], code: str) -> None:
    assert refuse(wrap_pixels(photograph(), **changed)).code == code


def with_syntax(data: bytes, uid: str) -> bytes:
    """Replace the transfer syntax in the file meta information, whose length is adapted."""
    at = data.index(b"\x02\x00\x10\x00UI")
    length = int.from_bytes(data[at + 6 : at + 8], "little")
    padded = uid.encode() + b"\0" * (len(uid) % 2)
    changed = data[:at] + b"\x02\x00\x10\x00UI" + struct.pack("<H", len(padded)) + padded + data[at + 8 + length :]
    group = int.from_bytes(data[140:144], "little") + len(padded) - length
    return changed[:140] + struct.pack("<I", group) + changed[144:]


@pytest.mark.parametrize(
    ("uid", "name"),
    [
        (DeflatedExplicitVRLittleEndian, "Deflated Explicit VR Little Endian"),
        (ExplicitVRBigEndian, "Explicit VR Big Endian"),
        ("1.2.840.10008.1.2.4.112", "JPEG XL"),
        ("1.2.840.10008.1.2.4.999", "1.2.840.10008.1.2.4.999"),
        (f"1.2 {MARK}", "malformed"),
    ],
)
def test_other_transfer_syntaxes_are_refused_by_name(uid: str, name: str) -> None:
    error = refuse(with_syntax(wrap_jpeg(ORIENTATION_6), uid))
    assert (error.code, error.detail) == ("dicom_syntax", f"DICOM transfer syntax {name} is not supported")


def test_deflated_file_is_refused_before_it_is_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    data = with_syntax(wrap_jpeg(ORIENTATION_6), DeflatedExplicitVRLittleEndian)
    bomb = data[: data.index(b"\x08\x00\x05\x00CS")] + zlib.compress(bytes(2**20), wbits=-15)

    def inflate(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(zlib, "decompress", inflate)
    monkeypatch.setattr(zlib, "decompressobj", inflate)
    assert refuse(bomb).code == "dicom_syntax"


def test_second_transfer_syntax_is_refused() -> None:
    data = wrap_jpeg(ORIENTATION_6)
    at = data.index(b"\x02\x00\x10\x00UI")
    again = b"\x02\x00\x10\x00UI" + struct.pack("<H", 22) + b"1.2.840.10008.1.2.1.99"
    assert refuse(data[:at] + again + data[at:]).detail == "DICOM meta information has 2 transfer syntaxes, expected 1"


def test_300_nested_sequences_are_refused() -> None:
    inner = Dataset()
    inner.CodeValue = MARK
    for _ in range(300):
        outer = Dataset()
        outer.AnatomicRegionSequence = [inner]
        inner = outer
    small = make_header(AnatomicRegionSequence=None)
    small.PixelData = b""
    data = write_dicom(small, ExplicitVRLittleEndian)
    nested = b"\x08\x00\x18\x22SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 300
    at = data.index(b"\x10\x00\x20\x00LO")
    error = refuse(data[:at] + nested + data[at:])
    assert (error.code, MARK in error.detail) == ("image_damaged", False)


@pytest.mark.parametrize("representation", [b"OB\0\0", b"UN\0\0", b"SQ\0\0"])
def test_element_that_claims_4_gb_is_refused(representation: bytes) -> None:
    data = wrap_pixels(photograph())
    at = data.index(b"\x10\x00\x20\x00LO")
    claim = b"\x09\x00\x10\x10" + representation + b"\xfe\xff\xff\xff" + b"a few bytes"
    assert isinstance(refuse(data[:at] + claim + data[at:]), ImageDecodeError)


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (JPEGLosslessSV1, encode_jpeg_lossless),
        (JPEG2000Lossless, encode_jpeg_2000),
        (JPEGLSLossless, encode_jpeg_ls),
    ],
)
def test_size_of_the_frame_must_be_that_of_the_header(syntax: str, encode: Any) -> None:
    for changed in ({"Rows": 99}, {"Columns": 152}, {"Rows": 151, "Columns": 100}):
        described = {"Rows": 100, "Columns": 151, "SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"} | changed
        header = make_header(**described, PlanarConfiguration=0)
        header.PixelData = encapsulate([encode(photograph())])
        error = refuse(write_dicom(header, syntax))
        assert (error.code, "151 x 100" in error.detail) == ("image_damaged", True), error


@pytest.mark.parametrize("changed", [{"Rows": 31}, {"Columns": 49}, {"Rows": 48, "Columns": 32}, {"Rows": 0}])
def test_size_of_a_jpeg_must_be_that_of_the_header(changed: dict[str, int]) -> None:
    assert refuse(wrap_jpeg(ORIENTATION_6, **changed)).code == "image_damaged"


@pytest.mark.parametrize("syntax", LOSSLESS_SYNTAXES)
def test_truncated_pixels_are_refused(syntax: str) -> None:
    data = wrap_pixels(photograph(), syntax)
    for end in (len(data) - 1000, len(data) - 20_000):
        assert isinstance(refuse(data[:end]), ImageDecodeError)


def test_declared_pixels_are_limited_before_decoding() -> None:
    data = wrap_pixels(photograph(), JPEGLSLossless, Rows=60_000, Columns=60_000)
    error = refuse(data)
    assert isinstance(error, ImageTooLargeError)
    assert "3,600,000,000 pixels, limit 150,000,000" in error.detail


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"PhotometricInterpretation": "YBR_PARTIAL_420"}, ImageFormatError),
        ({"PhotometricInterpretation": MARK.lower()}, ImageFormatError),
        ({"PhotometricInterpretation": None}, ImageFormatError),
        ({"SamplesPerPixel": 1}, ImageDecodeError),
        ({"SamplesPerPixel": None}, ImageDecodeError),
        ({"BitsAllocated": 32, "BitsStored": 32}, ImageFormatError),
        ({"BitsStored": 7}, ImageFormatError),
        ({"PixelRepresentation": 1}, ImageFormatError),
        ({"PhotometricInterpretation": "PALETTE COLOR", "SamplesPerPixel": 1}, ImageFormatError),
        ({"SOPInstanceUID": "2.25.17", "PlanarConfiguration": 7}, ImageDecodeError),
    ],
)
def test_impossible_pixels_are_refused(changed: dict[str, Any], kind: type[ImageError]) -> None:
    assert type(refuse(wrap_pixels(photograph(), **changed))) is kind


def test_extended_jpeg_is_read_and_12_bits_are_refused_by_their_number() -> None:
    jpeg = cv2.imencode(".jpg", photograph()[..., ::-1])[1].tobytes()
    data = with_syntax(wrap_jpeg(jpeg), JPEGExtended12Bit)
    assert np.array_equal(decode(data).rgb, decode(jpeg).rgb)
    at = data.index(b"\xff\xc0")
    assert refuse(data[: at + 4] + b"\x0c" + data[at + 5 :]).detail.startswith("JPEG with 12 bits per sample")


@pytest.fixture
def without_pydicom(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    load_pydicom.cache_clear()
    monkeypatch.setitem(sys.modules, "pydicom", None)
    yield
    load_pydicom.cache_clear()


@pytest.mark.usefixtures("without_pydicom")
def test_worker_without_the_extra_says_what_to_install() -> None:
    error = refuse(wrap_jpeg(ORIENTATION_6))
    assert error.code == "dicom_not_installed"
    assert error.detail.endswith("fix: install the extra `dicom`: pip install 'fundus-grading[dicom]'")


def test_preamble_is_ignored() -> None:
    header = make_header(Rows=32, Columns=48, SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL_422")
    header.PixelData = encapsulate([ORIENTATION_6])
    executable = write_dicom(header, JPEGBaseline8Bit, preamble=b"MZ" + bytes(126))
    assert np.array_equal(decode(executable).rgb, decode(wrap_jpeg(ORIENTATION_6)).rgb)


def test_other_class_is_refused_without_pixels() -> None:
    report = make_header(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.34", BitsAllocated=None)
    data = write_dicom(report, ExplicitVRLittleEndian)
    assert refuse(data).code in ("image_damaged", "dicom_class")
    assert isinstance(refuse(wrap_pixels(photograph(), SOPClassUID="1.2.3")), NotAPhotographError)
