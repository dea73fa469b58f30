"""Hash what the pixels of a DICOM file are made of, without a library.

A PACS returns an instance with the header of today: a patient's corrected name, or another preamble. The photograph is
still the one that was graded.
"""

import hashlib
import struct

from worker.core.dicom.transfer_syntaxes import IMPLICIT_LITTLE_ENDIAN, find_transfer_syntax
from worker.core.errors import ImageError

IMAGE_GROUP, PIXEL_GROUP, ITEM_GROUP = 0x0028, 0x7FE0, 0xFFFE
MAX_ELEMENTS = 100_000
MAX_DEPTH = 16
_PIXEL_DATA = 0x0010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xE000, 0xE00D, 0xE0DD
_UNDEFINED = 0xFFFFFFFF
_LONG_LENGTHS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
"""Value representations with four bytes of length, after two that are reserved."""


class _Malformed(Exception):  # noqa: N818 - never leaves this module
    """The file is not walked to its end."""


def hash_pixels(data: bytes) -> str | None:
    """Return the SHA-256 of transfer syntax, attributes of the group 0028 and pixel data, in hexadecimal.

    None for a file in which they are not found, such as a malformed one.
    """
    try:
        syntax, offset = find_transfer_syntax(data)
        return _Walk(data, is_explicit=syntax != IMPLICIT_LITTLE_ENDIAN).hash_from(offset, syntax)
    except (ImageError, _Malformed):
        return None


class _Walk:
    """Steps over the elements of a data set, a limited number of them."""

    def __init__(self, data: bytes, *, is_explicit: bool) -> None:
        self._data = data
        self._is_explicit = is_explicit
        self._left = MAX_ELEMENTS

    def hash_from(self, offset: int, syntax: str) -> str:
        digest, view = hashlib.sha256(syntax.encode()), memoryview(self._data)
        while True:
            group, element, _, _ = self._read_header(offset, is_explicit=self._is_explicit)
            end = self._skip(offset, is_explicit=self._is_explicit, depth=0)
            if group in (IMAGE_GROUP, PIXEL_GROUP):
                digest.update(view[offset:end])
            if (group, element) == (PIXEL_GROUP, _PIXEL_DATA):
                return digest.hexdigest()
            offset = end

    def _skip(self, offset: int, *, is_explicit: bool, depth: int) -> int:
        """Return where an element ends."""
        _, _, start, length = self._read_header(offset, is_explicit=is_explicit)
        if length != _UNDEFINED:
            return self._checked(start + length)
        # A sequence of unknown representation is written with implicit ones (PS3.5, 6.2.2).
        is_explicit = is_explicit and self._data[offset + 4 : offset + 6] != b"UN"
        return self._skip_items(start, is_explicit=is_explicit, depth=depth + 1)

    def _skip_items(self, offset: int, *, is_explicit: bool, depth: int) -> int:
        """Return where a sequence, or encapsulated pixel data, of undefined length ends."""
        if depth > MAX_DEPTH:
            raise _Malformed
        while True:
            group, element, start, length = self._read_header(offset, is_explicit=False)
            if (group, element) == (ITEM_GROUP, _SEQUENCE_END):
                return start
            if (group, element) != (ITEM_GROUP, _ITEM):
                raise _Malformed
            if length == _UNDEFINED:
                offset = self._skip_item(start, is_explicit=is_explicit, depth=depth)
            else:
                offset = self._checked(start + length)

    def _skip_item(self, offset: int, *, is_explicit: bool, depth: int) -> int:
        """Return where an item of undefined length ends."""
        while True:
            group, element, start, _ = self._read_header(offset, is_explicit=False)
            if (group, element) == (ITEM_GROUP, _ITEM_END):
                return start
            offset = self._skip(offset, is_explicit=is_explicit, depth=depth)

    def _read_header(self, offset: int, *, is_explicit: bool) -> tuple[int, int, int, int]:
        """Return group, element, where the value begins, and its length."""
        self._left -= 1
        self._checked(offset + 8)
        if self._left < 0:
            raise _Malformed
        group, element, length = struct.unpack_from("<HHI", self._data, offset)
        if not is_explicit:
            return group, element, offset + 8, length
        if self._data[offset + 4 : offset + 6] not in _LONG_LENGTHS:
            return group, element, offset + 8, length >> 16
        self._checked(offset + 12)
        return group, element, offset + 12, struct.unpack_from("<I", self._data, offset + 8)[0]

    def _checked(self, end: int) -> int:
        if end > len(self._data):
            raise _Malformed
        return end
