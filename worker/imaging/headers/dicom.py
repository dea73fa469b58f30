"""Find the declared size of a DICOM image without a library, to reserve memory for its decoding."""

import re

from worker.core.dicom.transfer_syntaxes import find_transfer_syntax
from worker.core.errors import ImageDecodeError
from worker.imaging.headers.header import Header, ImageFormat

_SIZE = re.compile(
    rb"\x28\x00\x10\x00(?:US\x02\x00|\x02\x00\x00\x00)(..)\x28\x00\x11\x00(?:US\x02\x00|\x02\x00\x00\x00)(..)",
    re.DOTALL,
)
"""Rows and Columns, which follow each other, in either encoding of little endian files."""


def read_dicom_header(data: bytes) -> Header:
    """Return the size that Rows and Columns declare first in a file; `worker.imaging.dicom` parses the file.

    Raises ImageFormatError for a transfer syntax that is not read, ImageDecodeError for a file without a size.
    """
    _, offset = find_transfer_syntax(data)
    size = _SIZE.search(data, offset)
    if size is None:
        raise ImageDecodeError("DICOM file has no Rows and Columns, so it contains no image")
    height, width = (int.from_bytes(side, "little") for side in size.groups())
    return Header(ImageFormat.DICOM, width, height)
