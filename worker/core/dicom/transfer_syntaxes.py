"""Find the transfer syntax of a DICOM file, in its file meta information, and refuse what is not read.

It decides how the rest of the file is parsed. A deflated file of 0.5 MB inflates to 1.1 GB as soon as a library opens
it, so nothing else of a file is read before its syntax is known.
"""

import struct

from worker.core.errors import ImageDecodeError, ImageFormatError

PREAMBLE_BYTES = 128
MAGIC = b"DICM"
META_OFFSET = PREAMBLE_BYTES + len(MAGIC)
MAX_META_ELEMENTS = 64

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_FIRST_ORDER = "1.2.840.10008.1.2.4.70"
JPEG_LS_LOSSLESS = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR_LOSSLESS = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"

READ_SYNTAXES = {
    IMPLICIT_LITTLE_ENDIAN: "Implicit VR Little Endian",
    EXPLICIT_LITTLE_ENDIAN: "Explicit VR Little Endian",
    JPEG_BASELINE: "JPEG Baseline",
    JPEG_EXTENDED: "JPEG Extended",
    JPEG_LOSSLESS: "JPEG Lossless",
    JPEG_LOSSLESS_FIRST_ORDER: "JPEG Lossless, First-Order Prediction",
    JPEG_LS_LOSSLESS: "JPEG-LS Lossless",
    JPEG_LS_NEAR_LOSSLESS: "JPEG-LS Near-lossless",
    JPEG_2000_LOSSLESS: "JPEG 2000 Lossless",
    JPEG_2000: "JPEG 2000",
    RLE_LOSSLESS: "RLE Lossless",
}
"""Transfer syntaxes that are read, by UID."""
_REFUSED_SYNTAXES = {
    "1.2.840.10008.1.2.1.99": "Deflated Explicit VR Little Endian",
    "1.2.840.10008.1.2.2": "Explicit VR Big Endian",
    "1.2.840.10008.1.2.4.92": "JPEG 2000 Part 2 Lossless",
    "1.2.840.10008.1.2.4.93": "JPEG 2000 Part 2",
    "1.2.840.10008.1.2.4.100": "MPEG2 Main Profile",
    "1.2.840.10008.1.2.4.102": "MPEG-4 AVC/H.264 High Profile",
    "1.2.840.10008.1.2.4.107": "HEVC/H.265 Main Profile",
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.1.2.4.201": "High-Throughput JPEG 2000 Lossless",
    "1.2.840.10008.1.2.4.203": "High-Throughput JPEG 2000",
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame",
}
_LONG_LENGTHS = (b"OB", b"OW", b"OF", b"SQ", b"UT", b"UN")
"""Value representations with four bytes of length, after two that are reserved."""
_TRANSFER_SYNTAX = 0x0010


def is_dicom(data: bytes) -> bool:
    """Whether the beginning of a file is that of a DICOM file (PS3.10): the preamble, whatever it is, and `DICM`."""
    return data[PREAMBLE_BYTES:META_OFFSET] == MAGIC


def find_transfer_syntax(data: bytes) -> tuple[str, int]:
    """Return the UID of the transfer syntax, one of READ_SYNTAXES, and the offset of the data set.

    Raises ImageFormatError `dicom_syntax` for any other syntax, by its name, and ImageDecodeError for file meta
    information that is truncated, malformed or has no or two syntaxes.
    """
    syntaxes = []
    offset = META_OFFSET
    for _ in range(MAX_META_ELEMENTS):
        if len(data) < offset + 8:
            raise ImageDecodeError(f"DICOM file truncated at byte {len(data)}, in its meta information")
        group, element = struct.unpack_from("<HH", data, offset)
        if group != 2:
            break
        if data[offset + 4 : offset + 6] in _LONG_LENGTHS:
            start, length = offset + 12, int.from_bytes(data[offset + 8 : offset + 12], "little")
        else:
            start, length = offset + 8, int.from_bytes(data[offset + 6 : offset + 8], "little")
        if element == _TRANSFER_SYNTAX:
            syntaxes.append(data[start : start + length].rstrip(b"\0 ").decode("ascii", "replace"))
        offset = start + length
    else:
        raise ImageDecodeError(f"DICOM meta information has more than {MAX_META_ELEMENTS} elements")
    if len(syntaxes) != 1:
        raise ImageDecodeError(f"DICOM meta information has {len(syntaxes)} transfer syntaxes, expected 1")
    if syntaxes[0] not in READ_SYNTAXES:
        raise _refuse(syntaxes[0])
    return syntaxes[0], offset


def _refuse(uid: str) -> ImageFormatError:
    known = set(uid) <= set("0123456789.")
    name = _REFUSED_SYNTAXES.get(uid, uid[:64] if known else "malformed")
    return ImageFormatError(f"DICOM transfer syntax {name} is not supported", code="dicom_syntax")
