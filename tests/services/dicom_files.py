"""DICOM files made of photographs, in every transfer syntax that is read."""

import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

import cv2
import jpeg_ls
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileMetaDataset, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

OPHTHALMIC_8_BIT = "1.2.840.10008.5.1.4.1.1.77.1.5.1"
RETINA, FUNDUS_CAMERA = "5665001", "409898007"


def make_code(value: str, scheme: str = "SCT", meaning: str = "meaning") -> Dataset:
    """Return an item of a code sequence."""
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def make_header(**attributes: Any) -> Dataset:
    """Return the header of a colour photograph of a right eye; attributes by keyword, None removes one."""
    header = Dataset()
    values: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "ImageType": ["ORIGINAL", "PRIMARY", "", "COLOR"],
        "SOPClassUID": OPHTHALMIC_8_BIT,
        "SOPInstanceUID": "2.25.17",
        "StudyDate": "20261128",
        "Modality": "OP",
        "ManufacturerModelName": "NW400",
        "AnatomicRegionSequence": [make_code(RETINA)],
        "PatientID": "1001",
        "StudyInstanceUID": "2.25.1",
        "SeriesInstanceUID": "2.25.2",
        "ImageLaterality": "R",
        "AcquisitionDeviceTypeCodeSequence": [make_code(FUNDUS_CAMERA)],
        "LightPathFilterTypeStackCodeSequence": [],
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
    }
    for name, value in (values | attributes).items():
        if value is not None:
            setattr(header, name, value)
    return header


def write_dicom(header: Dataset, syntax: str, *, preamble: bytes = bytes(128)) -> bytes:
    """Return the file of a header with pixel data."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    header.file_meta, header.preamble = meta, preamble
    file = BytesIO()
    dcmwrite(file, header, enforce_file_format=True)
    return file.getvalue()


def wrap_jpeg(jpeg: bytes, **attributes: Any) -> bytes:
    """Return a DICOM file with a JPEG as it is, as a camera writes it."""
    rows, columns = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_UNCHANGED | 128).shape[:2]
    described = {"Rows": rows, "Columns": columns, "SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL_422"}
    header = make_header(**described | {"PlanarConfiguration": 0} | attributes)
    header.PixelData = encapsulate([jpeg])
    return write_dicom(header, JPEGBaseline8Bit)


def wrap_pixels(pixels: NDArray[Any], syntax: str = ExplicitVRLittleEndian, **attributes: Any) -> bytes:
    """Return a DICOM file with uint8 or uint16 samples, (H, W) or (H, W, 3), coded without loss."""
    bits = pixels.dtype.itemsize * 8
    described: dict[str, Any] = {
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 3 if pixels.ndim == 3 else 1,
        "PhotometricInterpretation": "RGB" if pixels.ndim == 3 else "MONOCHROME2",
        "PlanarConfiguration": 0 if pixels.ndim == 3 else None,
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
    }
    header = make_header(**described | attributes)
    header.PixelData = pixels.tobytes() if syntax not in ENCODERS else encapsulate([ENCODERS[syntax](pixels)])
    header["PixelData"].VR = "OW" if bits == 16 else "OB"
    return write_dicom(header, syntax)


def encode_jpeg_lossless(pixels: NDArray[np.uint8]) -> bytes:
    """Encode 8-bit samples as JPEG Lossless (ITU-T T.81, annex H) with the left neighbour as prediction."""
    planes = pixels.reshape(*pixels.shape[:2], -1).astype(np.int32)
    rows, columns, components = planes.shape
    predicted = np.empty_like(planes)
    predicted[:, 1:] = planes[:, :-1]
    predicted[1:, 0] = planes[:-1, 0]
    predicted[0, 0] = 128
    difference = (planes - predicted).ravel()
    size = np.ceil(np.log2(np.abs(difference) + 1)).astype(np.int32)
    # All sizes have codes of 4 bits; a negative difference is stored less one.
    value = size << size | ((difference - (difference < 0)) & ((1 << size) - 1))
    length = 4 + size
    start = np.cumsum(length) - length
    shift = np.repeat(start + length - 1, length) - np.arange(length.sum())
    bits = (np.repeat(value, length) >> shift & 1).astype(np.uint8)
    scan = np.packbits(np.append(bits, np.ones(-len(bits) % 8, np.uint8)))
    scan = np.insert(scan, np.flatnonzero(scan == 0xFF) + 1, 0)
    ids = range(1, components + 1)
    frame = struct.pack(">BHHB", 8, rows, columns, components) + b"".join(bytes((i, 0x11, 0)) for i in ids)
    table = bytes(1) + bytes((0, 0, 0, 9, *[0] * 12)) + bytes(range(9))
    head = bytes((components,)) + b"".join(bytes((i, 0)) for i in ids) + bytes((1, 0, 0))
    segments = [(0xC3, frame), (0xC4, table), (0xDA, head)]
    packed = b"".join(bytes((0xFF, kind)) + struct.pack(">H", len(body) + 2) + body for kind, body in segments)
    return b"\xff\xd8" + packed + scan.tobytes() + b"\xff\xd9"


def encode_jpeg_2000(pixels: NDArray[Any]) -> bytes:
    """Encode samples as a lossless JPEG 2000 codestream."""
    stored = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    file = cv2.imencode(".jp2", stored, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])[1].tobytes()
    return file[file.index(b"\xff\x4f\xff\x51") :]


def encode_jpeg_ls(pixels: NDArray[Any]) -> bytes:
    """Encode samples as lossless JPEG-LS."""
    return bytes(jpeg_ls.encode_array(pixels, interleave_mode=2 if pixels.ndim == 3 else 0))


def encode_rle(pixels: NDArray[Any]) -> bytes:
    """Encode samples as RLE Lossless."""
    samples = 3 if pixels.ndim == 3 else 1
    return bytes(
        RLELosslessEncoder.encode(
            pixels,
            rows=pixels.shape[0],
            columns=pixels.shape[1],
            samples_per_pixel=samples,
            bits_allocated=pixels.dtype.itemsize * 8,
            bits_stored=pixels.dtype.itemsize * 8,
            pixel_representation=0,
            photometric_interpretation="RGB" if samples == 3 else "MONOCHROME2",
            number_of_frames=1,
            planar_configuration=0,
        )
    )


ENCODERS: dict[str, Callable[[NDArray[Any]], bytes]] = {
    JPEGLosslessSV1: encode_jpeg_lossless,
    JPEG2000Lossless: encode_jpeg_2000,
    JPEGLSLossless: encode_jpeg_ls,
    RLELossless: encode_rle,
}
LOSSLESS_SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, *ENCODERS)
