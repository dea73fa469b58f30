"""Parse the header of a DICOM file with pydicom, the one library that does, and keep what it says to itself.

Warnings and exceptions of pydicom repeat values of the header, such as a name with an invalid character. They end
here: errors name the type of the failure and the tag at most.
"""

from __future__ import annotations

import logging
import warnings
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

from worker.core.dicom.instance_header import HEADER_TAGS, PATIENT_TAGS, REGION_MODIFIER, Metadata
from worker.core.dicom.transfer_syntaxes import IMPLICIT_LITTLE_ENDIAN, find_transfer_syntax
from worker.core.errors import ImageDecodeError, ImageError, ImageFormatError

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import ModuleType

    from pydicom import Dataset

PIXEL_GROUP = 0x7FE0
CODE_VALUE = "00080100"
MAX_DEPTH = 3
"""Of sequences in sequences: anatomic region, its modifier, and none below."""
_SPECIFIC_CHARACTER_SET = "00080005"


class IncompleteHeaderError(ImageDecodeError):
    """The data ends before the header does; more of the file may complete it."""


def read_file_header(data: bytes, *, is_whole: bool = True) -> Metadata:
    """Return the DICOM JSON of a file, or of its beginning: the attributes that `instance_header` reads, no others.

    Raises IncompleteHeaderError if data that is not the whole file ends within the header, ImageFormatError
    `dicom_syntax` for a transfer syntax that is not read and `dicom_not_installed` without pydicom, and
    ImageDecodeError for a malformed header.
    """
    tags = (*HEADER_TAGS, *PATIENT_TAGS)
    _, dataset = parse_file(data, tags, with_pixels=False, is_whole=is_whole)
    return to_json(dataset, tags)


def parse_file(data: bytes, tags: Collection[str], *, with_pixels: bool, is_whole: bool = True) -> tuple[str, Dataset]:
    """Return the transfer syntax of a file and a pydicom data set with the given attributes, of those that it has.

    with_pixels: read on to the end of the file, not only to the pixel data. Raises as `read_file_header` does.
    """
    syntax, offset = find_transfer_syntax(data)
    filereader = load_pydicom()
    is_complete = is_whole

    def is_header_end(tag: int, _representation: str | None, _length: int) -> bool:
        nonlocal is_complete
        ends = tag >> 16 >= PIXEL_GROUP
        is_complete = is_complete or ends
        return ends and not with_pixels

    try:
        # Not `dcmread`: it would inflate a deflated data set and guess a missing syntax.
        dataset: Dataset = filereader.read_dataset(
            BytesIO(memoryview(data)[offset:]),
            syntax == IMPLICIT_LITTLE_ENDIAN,
            True,  # noqa: FBT003 - little endian
            stop_when=is_header_end,
            specific_tags=[int(tag, 16) for tag in (_SPECIFIC_CHARACTER_SET, *tags)],
        )
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - hostile bytes make pydicom raise anything, up to RecursionError
        raise _refuse(error, "header") from None
    if not is_complete:
        raise IncompleteHeaderError(f"DICOM header ends at byte {len(data)} without pixel data")
    return syntax, dataset


def to_json(dataset: Dataset, tags: Collection[str], depth: int = 0) -> dict[str, Any]:
    """Return the attributes in the DICOM JSON model. Raises ImageDecodeError for a malformed one."""
    document = {}
    for tag in tags:
        try:
            element = dataset.get(int(tag, 16))
            if element is not None and depth < MAX_DEPTH:
                document[tag] = {"vr": str(element.VR), "Value": _values(element.value, depth)}
        except (MemoryError, ImageError):
            raise
        except Exception as error:  # noqa: BLE001 - as above: values are converted on access
            raise _refuse(error, f"header: attribute ({tag[:4]},{tag[4:]})") from None
    return document


@cache
def load_pydicom() -> ModuleType:
    """Return `pydicom.filereader`, silenced. Raises ImageFormatError if it is not installed."""
    try:
        from pydicom import config, filereader
    except ImportError as error:
        raise ImageFormatError(
            "DICOM cannot be read here; fix: install the extra `dicom`: pip install 'fundus-grading[dicom]'",
            code="dicom_not_installed",
        ) from error
    config.settings.reading_validation_mode = config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")
    return filereader


def _values(value: Any, depth: int) -> list[Any]:
    from pydicom import Sequence

    if value is None:
        return []
    if isinstance(value, Sequence):
        return [to_json(item, (CODE_VALUE, REGION_MODIFIER), depth + 1) for item in value]
    values = value if isinstance(value, list) or type(value).__name__ == "MultiValue" else [value]
    return [int(one) if isinstance(one, int) else str(one) for one in values if not isinstance(one, bytes)]


def _refuse(error: Exception, part: str) -> ImageDecodeError:
    return ImageDecodeError(f"DICOM {part} is malformed ({type(error).__name__})")
