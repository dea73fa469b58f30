"""Unique identifiers of DICOM: recognise them, and derive them from names so that a repetition yields the same ones.

Source: DICOM PS3.5, chapter 9 and section B.2 (identifiers below 2.25 are UUIDs).
"""

import re
from uuid import UUID, uuid5

from worker.core.uris import UID_PATTERN

MIN_UID_CHARS = 10
"""A shorter name, such as `1.2.3`, is more likely that of a file."""
MAX_UID_CHARS = 64
NAMESPACE = UUID("5c6b1d4e-52f5-4c0b-9d47-3a1f6f0f9a11")
"""Never changed: identifiers that were published are derived from it."""

_UID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]*)){2,}")


def image_id_is_uid(image_id: str) -> bool:
    """Whether an image id is a SOP Instance UID and not the name of a file.

    It has to be long and valid by the standard; `UID_PATTERN` accepts what a PACS sends.
    """
    return MIN_UID_CHARS <= len(image_id) <= MAX_UID_CHARS and _UID.fullmatch(image_id) is not None


def derive_uid(*parts: object) -> str:
    """Derive an identifier from the parts and their order, as `2.25.` and a UUID of version 5."""
    # The lengths make the parts unambiguous, whatever characters they contain.
    name = "".join(f"{len(text)}:{text}" for text in map(str, parts))
    return f"2.25.{uuid5(NAMESPACE, name).int}"


def find_instance_uid(image_id: str, uri: str) -> str | None:
    """Return the SOP Instance UID of a photograph that is a DICOM instance; None for another one.

    The image id of a DICOM instance is its SOP Instance UID, which ends the URI `dicomweb://SERVER/STUDY/SERIES/UID`.
    """
    if uri.startswith("dicomweb://"):
        last = uri.rpartition("/")[2]
        return last if UID_PATTERN.fullmatch(last) else None
    return image_id if image_id_is_uid(image_id) else None
