"""Unpack integers from untrusted bytes."""

import struct

from worker.core.errors import ImageDecodeError


def unpack_at(fmt: str, data: bytes, offset: int, part: str) -> tuple[int, ...]:
    """Return the integers at an offset.

    fmt: format string of `struct`, integers only. part: name of this part of the file, for the error.
    Raises ImageDecodeError if the part does not lie within the file.
    """
    end = offset + struct.calcsize(fmt)
    if offset < 0 or end > len(data):
        raise ImageDecodeError(f"file truncated at byte {len(data)}: {part} ends at byte {end}")
    return struct.unpack_from(fmt, data, offset)
