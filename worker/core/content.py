"""Identity of the bytes of an image, to detect that a file has been replaced."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ContentId:
    """Identity of the bytes that were fetched for an image.

    sha256: 64 hexadecimal digits, lower case; of an entry of a stack, the hash of its values as stored; of a DICOM file
    that of its pixels, see `hash_pixels`, as its header may change in the PACS. version:
    version id of the S3 object; None for a file and for an object that can be overwritten in place.
    """

    sha256: str
    version: str | None = None
