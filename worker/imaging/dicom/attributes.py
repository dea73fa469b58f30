"""Read single values of a pydicom data set. Errors name the attribute and never its value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from worker.core.errors import ImageDecodeError

if TYPE_CHECKING:
    from pydicom import Dataset


def read_integer(dataset: Dataset, tag: str, lowest: int, highest: int, default: int | None = None) -> int:
    """Return an integer within a range. Raises ImageDecodeError if it is not one, or absent and without default."""
    value = _value(dataset, tag)
    number = default if value is None else value
    if not isinstance(number, int) or not lowest <= number <= highest:
        raise ImageDecodeError(f"DICOM header: attribute ({tag[:4]},{tag[4:]}) is missing or out of range")
    return int(number)


def find_number(dataset: Dataset, tag: str) -> float | None:
    """Return the first value of an attribute as a finite number, or None. Raises ValueError for another value."""
    value = _value(dataset, tag)
    if value is None or value == "":
        return None
    number = float(value if isinstance(value, str | int | float) else value[0])
    if not math.isfinite(number):
        raise ValueError
    return number


def read_bytes(dataset: Dataset, tag: str) -> bytes:
    """Return the bytes of an attribute. Raises ImageDecodeError without any."""
    value = _value(dataset, tag)
    if not isinstance(value, bytes) or not value:
        raise ImageDecodeError(f"DICOM attribute ({tag[:4]},{tag[4:]}) is missing or empty")
    return value


def _value(dataset: Dataset, tag: str) -> Any:
    element = dataset.get(int(tag, 16))
    return None if element is None else element.value
