"""Read the header of a DICOM file, check that it is a photograph to grade, and cut out its frame.

For decoding processes only. pydicom parses the file and unpacks native, RLE and JPEG-LS samples; JPEG, JPEG Lossless
and JPEG 2000 are left to the decoder of image files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from worker.core.dicom.file_header import parse_file, to_json
from worker.core.dicom.instance_header import HEADER_TAGS, read_instance_header
from worker.core.dicom.selection import check_instance_eye, check_instance_kind
from worker.core.dicom.transfer_syntaxes import (
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_FIRST_ORDER,
    JPEG_LS_LOSSLESS,
    JPEG_LS_NEAR_LOSSLESS,
    RLE_LOSSLESS,
)
from worker.core.errors import ImageDecodeError, ImageError, ImageFormatError, ImageTooLargeError
from worker.imaging.dicom.attributes import read_bytes, read_integer
from worker.imaging.dicom.codestreams import Codestream, read_jpeg_2000, read_jpeg_ls
from worker.imaging.dicom.display import DISPLAY_TAGS, Palette, Samples, Window, find_window, read_palette
from worker.imaging.dicom.jpeg_segments import clean_jpeg

if TYPE_CHECKING:
    from collections.abc import Collection

    from pydicom import Dataset

    from worker.core.vocabulary import DicomAdmission
    from worker.imaging.headers.header import ImageLimits

PIXEL_DATA = "7FE00010"
_SAMPLES, _PLANES, _ROWS, _COLUMNS = "00280002", "00280006", "00280010", "00280011"
_BITS_ALLOCATED, _BITS_STORED, _SIGNED = "00280100", "00280101", "00280103"
_PIXEL_TAGS = (_SAMPLES, _PLANES, _ROWS, _COLUMNS, _BITS_ALLOCATED, _BITS_STORED, _SIGNED, *DISPLAY_TAGS, PIXEL_DATA)


class Coding(Enum):
    """How the frame is coded."""

    NATIVE = auto()
    RLE = auto()
    JPEG = auto()
    JPEG_LOSSLESS = auto()
    JPEG_LS = auto()
    JPEG_2000 = auto()


_CODINGS = {
    IMPLICIT_LITTLE_ENDIAN: Coding.NATIVE,
    EXPLICIT_LITTLE_ENDIAN: Coding.NATIVE,
    RLE_LOSSLESS: Coding.RLE,
    JPEG_BASELINE: Coding.JPEG,
    JPEG_EXTENDED: Coding.JPEG,
    JPEG_LOSSLESS: Coding.JPEG_LOSSLESS,
    JPEG_LOSSLESS_FIRST_ORDER: Coding.JPEG_LOSSLESS,
    JPEG_LS_LOSSLESS: Coding.JPEG_LS,
    JPEG_LS_NEAR_LOSSLESS: Coding.JPEG_LS,
    JPEG_2000_LOSSLESS: Coding.JPEG_2000,
    JPEG_2000: Coding.JPEG_2000,
}
_SAMPLES_OF = {
    **dict.fromkeys(("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"), 1),
    **dict.fromkeys(("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"), 3),
}
"""Samples per Pixel of each Photometric Interpretation that is read."""
_TRANSFORMED_BY_CODEC = ("YBR_ICT", "YBR_RCT")
_MAX_SIDE = 2**16 - 1


@dataclass(frozen=True, slots=True)
class Frame:
    """The photograph of a DICOM file: either `encoded` or `samples`.

    bits: of each sample that count, 8 to 16. encoded: JPEG without metadata, JPEG Lossless or a JPEG 2000 codestream.
    samples: (rows, columns) or (rows, columns, 3), uint8 or uint16. gives_rgb: the codec of `encoded` converts its
    components to RGB.
    """

    transfer_syntax: str
    rows: int
    columns: int
    photometric_interpretation: str
    bits_allocated: int
    bits: int
    encoded: bytes = b""
    samples: Samples | None = None
    gives_rgb: bool = False
    window: Window | None = None
    palette: Palette | None = None

    @property
    def coding(self) -> Coding:
        """How the pixels are coded."""
        return _CODINGS[self.transfer_syntax]

    @property
    def samples_per_pixel(self) -> int:
        """1 for grey and palettes, 3 for colours."""
        return _SAMPLES_OF[self.photometric_interpretation]


def read_frame(data: bytes, limits: ImageLimits, admitted: Collection[DicomAdmission]) -> Frame:
    """Return the photograph of a DICOM file, the first frame of several.

    Raises NotAPhotographError for an instance that is not to be graded, ImageFormatError for a coding that is not read,
    ImageTooLargeError beyond the limits, and ImageDecodeError for a malformed file. No error repeats a value that may
    be personal.
    """
    syntax, dataset = parse_file(data, (*HEADER_TAGS, *_PIXEL_TAGS), with_pixels=True)
    header = read_instance_header(to_json(dataset, HEADER_TAGS))
    check_instance_kind(header, admitted)
    check_instance_eye(header)
    try:
        frame = _read_layout(dataset, syntax, header.photometric_interpretation or "", limits)
        return _add_pixels(frame, dataset, header.frames)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - pydicom raises anything for hostile bytes, and repeats values of them
        raise ImageDecodeError(f"DICOM pixel data is malformed ({type(error).__name__})") from None


def _read_layout(dataset: Dataset, syntax: str, photometric: str, limits: ImageLimits) -> Frame:
    """Check what the header says of the pixels before any of them is decoded."""
    rows, columns = read_integer(dataset, _ROWS, 1, _MAX_SIDE), read_integer(dataset, _COLUMNS, 1, _MAX_SIDE)
    if rows * columns > limits.max_image_pixels:
        size = f"DICOM image of {columns} x {rows} = {rows * columns:,} pixels"
        raise ImageTooLargeError(f"{size}, limit {limits.max_image_pixels:,}")
    if photometric not in _SAMPLES_OF:
        name = photometric if re.fullmatch(r"[A-Z0-9_ ]{1,16}", photometric) else "missing or malformed"
        raise ImageFormatError(f"DICOM photometric interpretation {name} is not supported")
    samples = read_integer(dataset, _SAMPLES, 1, 4)
    if samples != _SAMPLES_OF[photometric]:
        raise ImageDecodeError(f"DICOM header contradicts itself: {photometric} with {samples} samples per pixel")
    allocated, bits = read_integer(dataset, _BITS_ALLOCATED, 1, 64), read_integer(dataset, _BITS_STORED, 1, 64)
    if allocated not in (8, 16) or not 8 <= bits <= allocated or read_integer(dataset, _SIGNED, 0, 1, 0):
        raise ImageFormatError(
            f"DICOM samples of {bits} bits in {allocated}, or signed ones, are not supported; "
            "supported: 8 to 16, unsigned"
        )
    return Frame(
        syntax,
        rows,
        columns,
        photometric,
        allocated,
        bits,
        window=find_window(dataset) if bits > 8 and photometric.startswith("MONOCHROME") else None,
        palette=read_palette(dataset) if photometric == "PALETTE COLOR" else None,
    )


def _add_pixels(frame: Frame, dataset: Dataset, frames: int) -> Frame:
    from pydicom.encaps import get_frame

    value = read_bytes(dataset, PIXEL_DATA)
    if frame.coding is Coding.NATIVE:
        return replace(frame, samples=_unpack(frame, dataset, value[: _frame_bytes(frame)], 1))
    encoded = get_frame(value, 0, number_of_frames=frames)
    match frame.coding:
        case Coding.JPEG:
            is_rgb = frame.photometric_interpretation == "RGB"
            return replace(frame, encoded=clean_jpeg(encoded, is_rgb=is_rgb, is_lossless=False), gives_rgb=True)
        case Coding.JPEG_LOSSLESS:
            return replace(frame, encoded=clean_jpeg(encoded, is_rgb=False, is_lossless=True))
        case Coding.JPEG_2000:
            found = read_jpeg_2000(encoded)
            _check_codestream(frame, found)
            gives_rgb = found.is_rgb or frame.photometric_interpretation in _TRANSFORMED_BY_CODEC
            return replace(frame, encoded=encoded, gives_rgb=gives_rgb)
        case Coding.JPEG_LS:
            _check_codestream(frame, read_jpeg_ls(encoded))
    return replace(frame, samples=_unpack(frame, dataset, value, frames))


def _frame_bytes(frame: Frame) -> int:
    samples = frame.rows * frame.columns * frame.samples_per_pixel * frame.bits_allocated // 8
    # Two of four colour differences are stored.
    return samples * 2 // 3 if frame.photometric_interpretation == "YBR_FULL_422" else samples


def _check_codestream(frame: Frame, found: Codestream) -> None:
    samples = frame.samples_per_pixel
    if (found.width, found.height, found.components) != (frame.columns, frame.rows, samples) or found.bits > frame.bits:
        raise ImageDecodeError(
            f"frame of {found.width} x {found.height} pixels, {found.components} components and {found.bits} bits; "
            f"the DICOM header has {frame.columns} x {frame.rows}, {samples} and {frame.bits}"
        )


def _unpack(frame: Frame, dataset: Dataset, value: bytes, frames: int) -> Samples:
    """Decode native, RLE and JPEG-LS samples by pydicom."""
    from pydicom.pixels.decoders.base import get_decoder

    decoder = get_decoder(frame.transfer_syntax)
    if not decoder.is_available:
        raise ImageFormatError(
            "JPEG-LS cannot be read here; fix: install the extra `dicom`: pip install 'fundus-grading[dicom]'",
            code="dicom_not_installed",
        )
    # Named, since pydicom would use any other plugin that happens to be installed.
    plugin = {Coding.RLE: "pydicom", Coding.JPEG_LS: "pyjpegls"}.get(frame.coding, "")
    options: dict[str, Any] = {
        "rows": frame.rows,
        "columns": frame.columns,
        "samples_per_pixel": frame.samples_per_pixel,
        "photometric_interpretation": frame.photometric_interpretation,
        "bits_allocated": frame.bits_allocated,
        "bits_stored": frame.bits,
        "pixel_representation": 0,
        "planar_configuration": read_integer(dataset, _PLANES, 0, 1, 0),
        "number_of_frames": frames,
        "pixel_keyword": "PixelData",
    }
    unpacked: Samples = decoder.as_array(value, index=0, raw=True, decoding_plugin=plugin, **options)[0]
    return unpacked
