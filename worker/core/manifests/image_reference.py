"""Reference to one fundus photograph, as read from a source."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime

from worker.core.vocabulary import Eye, Grade

OnWarning = Callable[[str], None]
"""Callback that receives one sentence for the operator about ignored or incomplete input."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")


@dataclass(frozen=True, slots=True)
class ImageReference:
    """URI and known facts of one photograph.

    uri: canonical, see `canonical_uri`.
    sha256: of the bytes, lower-case hexadecimal.
    source: the site or camera, for training and evaluation by source.
    study_date: when a DICOM study says that it was taken.
    etag: changes when the bytes change: the store's ETag of an object, time and size of a file.
    """

    uri: str
    image_id: str | None = None
    patient_id: str | None = None
    eye: Eye = Eye.UNKNOWN
    reference_grade: Grade | None = None
    sha256: str | None = None
    source: str | None = None
    study_date: date | None = None
    etag: str | None = field(default=None, compare=False)
    modified_at: datetime | None = field(default=None, compare=False)

    @property
    def content_version(self) -> str | None:
        """ETag or SHA-256, which distinguishes these bytes from earlier ones under the same URI; None if unknown."""
        return self.etag or self.sha256

    @property
    def is_instance(self) -> bool:
        """Whether the image id is the UID of a DICOM instance: files with the same one are copies of each other."""
        return self.image_id is not None and self.etag == self.image_id

    @property
    def identity(self) -> str:
        """The given image_id, or the first 32 hexadecimal digits of the SHA-256 of the URI."""
        return self.image_id or hashlib.sha256(self.uri.encode()).hexdigest()[:32]


def file_etag(status: os.stat_result) -> str:
    """Make an ETag from a file's modification time and size."""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"


def is_image_name(name: str) -> bool:
    """Whether a file name has an image suffix and is not hidden: macOS adds a `._IMG.jpg` to each `IMG.jpg`."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
