"""Read fixed binary layouts out of hostile bytes."""

import struct

from worker.core.errors import ImageDecodeError


def unpack_at(layout: str, data: bytes, offset: int, what: str) -> tuple[int, ...]:
    """Integers at a place in the file. `layout` is one of `struct` that holds integers only; `what` names the place.

    Raises ImageDecodeError if the file ends before the layout does.
    """
    end = offset + struct.calcsize(layout)
    if offset < 0 or end > len(data):
        raise ImageDecodeError(f"{what} reaches to byte {end} of {len(data)}: the file is cut short")
    return struct.unpack_from(layout, data, offset)
