"""What a worker and its decoding processes say to each other: lengths and JSON through pipes, and never a pickle.

The bytes of pictures lie in memory that both share; what a pipe says is that they are there. A decoding process has
read hostile bytes, so its answers are hostile, too: every length is checked before it is believed, nothing in an answer
can name code to run, and what lies in the shared memory is copied before it is looked at.
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
MAX_HEAD_BYTES = 4096
"""An answer's head is a box or one sentence."""
MAX_DETAIL_CHARACTERS = 500

_LENGTH = struct.Struct("<Q")
_RAISABLE: dict[str, type[FundusError]] = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ImageError | Ungradable)
}


def response_size_bytes(*, input_sizes_px: Sequence[int], overlay_size_px: int) -> int:
    """What a prepared photograph takes of the shared memory."""
    return sum(side**2 * 3 for side in input_sizes_px) + overlay_size_px**2 * 3 + -(-(overlay_size_px**2) // 8)


def write_request(stream: IO[bytes], shared: mmap, data: bytes) -> None:
    """Send one picture's bytes, which have to fit the shared."""
    shared[: len(data)] = data
    stream.write(_LENGTH.pack(len(data)))
    stream.flush()


def read_request(stream: IO[bytes], shared: mmap) -> bytes | None:
    """One picture's bytes; None at the end of the stream, which is how a worker says goodbye."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    return shared[: _LENGTH.unpack(head)[0]]


def write_response(stream: IO[bytes], shared: mmap, prepared: PreparedImage) -> None:
    """Answer with a prepared photograph."""
    start = 0
    for array in (prepared.enhanced, *prepared.extra_inputs, prepared.canvas, np.packbits(prepared.field_mask)):
        shared[start : start + array.nbytes] = np.ascontiguousarray(array).data.cast("B")
        start += array.nbytes
    _write_head(stream, {"box": prepared.box})
    stream.flush()


def write_error(stream: IO[bytes], error: ImageError | Ungradable) -> None:
    """Answer that this picture has no prepared image, and why."""
    detail = error.detail[:MAX_DETAIL_CHARACTERS]
    _write_head(stream, {"error": type(error).__name__, "code": error.code, "detail": detail})
    stream.flush()


def read_response(
    stream: IO[bytes], shared: mmap, *, input_sizes_px: Sequence[int], overlay_size_px: int
) -> PreparedImage:
    """The prepared photograph, pictures for the network uint8, all arrays read-only.

    input_sizes_px: of each recipe of the model, in their order.
    Raises the ImageError or Ungradable that was answered, ImageDecoderCrashError for what is no answer, EOFError when
    the stream ends first.
    """
    size = _LENGTH.unpack(_read(stream, _LENGTH.size))[0]
    if size > MAX_HEAD_BYTES:
        raise ImageDecoderCrashError(f"the decoder's answer has a head of {size} bytes, limit {MAX_HEAD_BYTES}")
    head = _parse_head(_read(stream, size))
    if "error" in head:
        raise _rebuild_error(head)
    box = _parse_box(head.get("box"), overlay_size_px)
    start = 0

    def take(count: int) -> NDArray[np.uint8]:
        nonlocal start
        start += count
        return np.frombuffer(shared[start - count : start], np.uint8)

    square = (overlay_size_px, overlay_size_px)
    enhanced, *extra_inputs = (take(side**2 * 3).reshape(side, side, 3) for side in input_sizes_px)
    canvas = take(overlay_size_px**2 * 3).reshape(*square, 3)
    field_mask = np.unpackbits(take(-(-(overlay_size_px**2) // 8)), count=overlay_size_px**2)
    return PreparedImage(enhanced, canvas, field_mask.reshape(square).view(bool), box, tuple(extra_inputs))


def _write_head(stream: IO[bytes], head: dict[str, object]) -> None:
    encoded = json.dumps(head).encode()
    stream.write(_LENGTH.pack(len(encoded)))
    stream.write(encoded)


def _read(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _parse_head(encoded: bytes) -> dict[str, object]:
    try:
        head = json.loads(encoded)
    except (ValueError, RecursionError) as error:
        raise ImageDecoderCrashError("the decoder's answer is no JSON") from error
    if not isinstance(head, dict):
        raise ImageDecoderCrashError(f"the decoder's answer is a {type(head).__name__}")
    return head


def _rebuild_error(head: dict[str, object]) -> FundusError:
    kind, code, detail = (head.get(name) for name in ("error", "code", "detail"))
    if not isinstance(code, str) or not isinstance(detail, str) or str(kind) not in _RAISABLE:
        return ImageDecoderCrashError(f"the decoder's answer names the error {kind!r}")
    return _RAISABLE[str(kind)](detail, code=code)


def _parse_box(box: object, size_px: int) -> tuple[int, int, int, int]:
    if isinstance(box, list) and len(box) == 4 and all(type(side) is int for side in box):
        top, bottom, left, right = box
        # A border may reach past the canvas, and a field of which so little is seen is ungradable.
        reach, sides = 4 * size_px, ((top, bottom), (left, right))
        if all(-reach <= start < stop <= reach and start < size_px and stop > 0 for start, stop in sides):
            return top, bottom, left, right
    raise ImageDecoderCrashError(f"the decoder's answer has the box {box!r}")
