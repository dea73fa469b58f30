"""Wire format between a worker and its decoding processes: lengths and JSON through pipes, pixels in shared memory.

A decoding process parses hostile bytes, so its responses are untrusted: lengths are checked before use, nothing in a
response is unpickled or names code to run, and shared memory is copied before it is read.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import numpy as np

from worker.core import errors
from worker.core.errors import FundusError, ImageDecoderCrashError, ImageError, Ungradable
from worker.imaging.photograph import PreparedImage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from mmap import mmap
    from typing import IO

    from numpy.typing import NDArray

READY = b"ready\n"
"""Sent by a decoding process when it accepts requests."""
MAX_HEADER_BYTES = 4096
"""A response's header holds a crop box or an error."""
MAX_DETAIL_CHARACTERS = 500

_LENGTH = struct.Struct("<Q")
_RAISABLE: dict[str, type[FundusError]] = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ImageError | Ungradable)
}


def response_size_bytes(*, input_sizes_px: Sequence[int], overlay_size_px: int) -> int:
    """Largest size of a prepared image in shared memory."""
    return sum(side**2 * 3 for side in input_sizes_px) + overlay_size_px**2 * 3 + -(-(overlay_size_px**2) // 8)


def write_request(stream: IO[bytes], shared: mmap, data: bytes) -> None:
    """Send the bytes of one file, which must fit the shared memory."""
    shared[: len(data)] = data
    stream.write(_LENGTH.pack(len(data)))
    stream.flush()


def read_request(stream: IO[bytes], shared: mmap) -> bytes | None:
    """Return the bytes of one file; None at the end of the stream, when the worker has closed it."""
    length = stream.read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        return None
    return shared[: _LENGTH.unpack(length)[0]]


def write_response(stream: IO[bytes], shared: mmap, prepared: PreparedImage) -> None:
    """Send a prepared image."""
    start = 0
    for array in (prepared.enhanced, *prepared.extra_inputs, prepared.canvas, np.packbits(prepared.field_mask)):
        shared[start : start + array.nbytes] = np.ascontiguousarray(array).data.cast("B")
        start += array.nbytes
    _write_header(stream, {"crop_box": prepared.crop_box, "canvas_px": prepared.canvas.shape[0]})
    stream.flush()


def write_error(stream: IO[bytes], error: ImageError | Ungradable) -> None:
    """Send the reason why there is no prepared image."""
    detail = error.detail[:MAX_DETAIL_CHARACTERS]
    _write_header(stream, {"error": type(error).__name__, "code": error.code, "detail": detail})
    stream.flush()


def read_response(
    stream: IO[bytes], shared: mmap, *, input_sizes_px: Sequence[int], overlay_size_px: int
) -> PreparedImage:
    """Return the prepared image; its arrays are read-only, model inputs are uint8.

    input_sizes_px: input size of each recipe of the model, in order. overlay_size_px: the largest side of the canvas.
    Raises the ImageError or Ungradable that was sent, ImageDecoderCrashError for a malformed response, EOFError if the
    stream ends before the response is complete.
    """
    size = _LENGTH.unpack(_read(stream, _LENGTH.size))[0]
    if size > MAX_HEADER_BYTES:
        raise ImageDecoderCrashError(f"decoder response: header has {size} bytes, limit {MAX_HEADER_BYTES}")
    header = _parse_header(_read(stream, size))
    if "error" in header:
        raise _rebuild_error(header)
    side_px = _parse_side(header.get("canvas_px", overlay_size_px), overlay_size_px)
    crop_box = _parse_crop_box(header.get("crop_box"), side_px)
    start = 0

    def take(count: int) -> NDArray[np.uint8]:
        nonlocal start
        start += count
        return np.frombuffer(shared[start - count : start], np.uint8)

    square = (side_px, side_px)
    enhanced, *extra_inputs = (take(side**2 * 3).reshape(side, side, 3) for side in input_sizes_px)
    canvas = take(side_px**2 * 3).reshape(*square, 3)
    field_mask = np.unpackbits(take(-(-(side_px**2) // 8)), count=side_px**2)
    return PreparedImage(enhanced, canvas, field_mask.reshape(square).view(bool), crop_box, tuple(extra_inputs))


def _write_header(stream: IO[bytes], header: dict[str, object]) -> None:
    encoded = json.dumps(header).encode()
    stream.write(_LENGTH.pack(len(encoded)))
    stream.write(encoded)


def _read(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _parse_header(encoded: bytes) -> dict[str, object]:
    try:
        header = json.loads(encoded)
    except (ValueError, RecursionError) as error:
        raise ImageDecoderCrashError("decoder response: header is not JSON") from error
    if not isinstance(header, dict):
        raise ImageDecoderCrashError(f"decoder response: header is a {type(header).__name__}, not an object")
    return header


def _rebuild_error(header: dict[str, object]) -> FundusError:
    kind, code, detail = (header.get(name) for name in ("error", "code", "detail"))
    if not isinstance(code, str) or not isinstance(detail, str) or str(kind) not in _RAISABLE:
        return ImageDecoderCrashError(f"decoder response: error {kind!r} is malformed")
    return _RAISABLE[str(kind)](detail, code=code)


def _parse_side(side: object, largest_px: int) -> int:
    if type(side) is int and 1 <= side <= largest_px:
        return side
    raise ImageDecoderCrashError(f"decoder response: canvas of {side!r} pixels, limit {largest_px}")


def _parse_crop_box(box: object, size_px: int) -> tuple[int, int, int, int]:
    if isinstance(box, list) and len(box) == 4 and all(type(side) is int for side in box):
        top, bottom, left, right = box
        # The box may extend past the canvas, but not this far: such a field would be mostly cut off and ungradable.
        reach, sides = 4 * size_px, ((top, bottom), (left, right))
        if all(-reach <= start < stop <= reach and start < size_px and stop > 0 for start, stop in sides):
            return top, bottom, left, right
    raise ImageDecoderCrashError(f"decoder response: crop box {box!r} is malformed")
