"""Detect the format of an image by its content and check its header: size, limits, truncation."""

from worker.core.dicom.transfer_syntaxes import is_dicom
from worker.core.errors import ImageDecodeError, ImageFormatError, ImageTooLargeError
from worker.imaging.headers import bmp, dicom, jpeg, png, tiff, webp
from worker.imaging.headers.header import Header, ImageFormat, ImageLimits


def check_header(data: bytes, limits: ImageLimits) -> Header:
    """Return format and size of an image without decoding it: a file of 1 MB may declare 900 million pixels.

    Raises ImageFormatError for an unsupported format, ImageTooLargeError beyond the limits, ImageDecodeError for a
    damaged or truncated file.
    """
    if len(data) > limits.max_image_bytes:
        raise ImageTooLargeError(f"{len(data):,} bytes, limit {limits.max_image_bytes:,}")
    header = read_header(data)
    pixels = header.width * header.height
    if header.width < 1 or header.height < 1:
        raise ImageDecodeError(f"{header.format} header has an invalid size: {header.width} x {header.height} pixels")
    if pixels > limits.max_image_pixels:
        size = f"{header.format} of {header.width} x {header.height} = {pixels:,} pixels"
        raise ImageTooLargeError(f"{size}, limit {limits.max_image_pixels:,}")
    if header.format is ImageFormat.PNG:
        png.verify_png_chunks(data)
    return header


def read_header(data: bytes) -> Header:
    """Return format and size as the file declares them. Raises ImageFormatError or ImageDecodeError."""
    if data.startswith(jpeg.MAGIC):
        return jpeg.read_jpeg_header(data)
    if data.startswith(png.MAGIC):
        return png.read_png_header(data)
    if data.startswith(tiff.MAGICS):
        return tiff.read_tiff_header(data)
    if data.startswith(webp.MAGIC) and data[8:12] == webp.FORM:
        return webp.read_webp_header(data)
    if data.startswith(bmp.MAGIC):
        return bmp.read_bmp_header(data)
    if is_dicom(data):
        return dicom.read_dicom_header(data)
    if not data:
        raise ImageFormatError("the file is empty")
    accepted = ", ".join(kind for kind in ImageFormat if kind is not ImageFormat.JPEG_2000)
    raise ImageFormatError(f"unsupported format: first bytes are {data[:8].hex(' ')}; accepted formats: {accepted}")
