"""Read the header of a BMP and check that its pixel data is complete."""

from worker.core.errors import ImageDecodeError, ImageFormatError
from worker.imaging.headers.header import Header, ImageFormat
from worker.imaging.headers.unpack import unpack_at

MAGIC = b"BM"

_FILE_HEADER_BYTES = 14
_CORE_HEADER_BYTES = 12
_INFO_HEADER_BYTES = 40
_UNCOMPRESSED = (0, 3)
_RUN_LENGTH = (1, 2)
_BITS = (1, 4, 8, 16, 24, 32)


def read_bmp_header(data: bytes) -> Header:
    """Return the header of a Windows bitmap (BITMAPCOREHEADER, BITMAPINFOHEADER and later).

    Raises ImageDecodeError for a truncated file, ImageFormatError for an unsupported compression or depth.
    """
    pixel_offset, header_bytes = unpack_at("<10xII", data, 0, "BMP file header")
    if header_bytes == _CORE_HEADER_BYTES:
        width, height, _, bits = unpack_at("<HHHH", data, _FILE_HEADER_BYTES + 4, "BMP header")
        compression = 0
    elif header_bytes >= _INFO_HEADER_BYTES:
        width, height, _, bits, compression = unpack_at("<iiHHI", data, _FILE_HEADER_BYTES + 4, "BMP header")
    else:
        raise ImageDecodeError(f"BMP header is malformed: {header_bytes} bytes, expected 12, 40 or more")
    if bits not in _BITS or compression not in _UNCOMPRESSED + _RUN_LENGTH:
        raise ImageFormatError(f"BMP with {bits} bits per pixel and compression {compression} is not supported")
    height = abs(height)
    needed = pixel_offset
    if compression in _UNCOMPRESSED:
        needed += (width * bits + 31) // 32 * 4 * height
    if needed > len(data):
        raise ImageDecodeError(f"BMP truncated at byte {len(data)} of {needed}")
    return Header(ImageFormat.BMP, width, height)
