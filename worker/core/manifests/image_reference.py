"""A reference to one fundus photograph, as a source gives it."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from worker.core.vocabulary import Eye, Grade

Remark = Callable[[str], None]
"""Takes one sentence for the operator about something that was left out."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")


@dataclass(frozen=True, slots=True)
class Reference:
    """Where one photograph lies and what is known of it; `uri` is canonical, sha256 is lower-case hexadecimal.

    `etag`: changes when the bytes do. Of an object that the store listed; of a file, its time and size.
    """

    uri: str
    image_id: str | None = None
    patient_id: str | None = None
    eye: Eye = Eye.UNKNOWN
    reference_grade: Grade | None = None
    sha256: str | None = None
    etag: str | None = field(default=None, compare=False)
    modified_at: datetime | None = field(default=None, compare=False)

    @property
    def version(self) -> str | None:
        """What tells these bytes from earlier ones under the same name; None where the source gives nothing."""
        return self.etag or self.sha256

    @property
    def identity(self) -> str:
        """The given image_id, else the first 32 hexadecimal digits of the SHA-256 of the URI."""
        return self.image_id or hashlib.sha256(self.uri.encode()).hexdigest()[:32]


def etag_of_file(status: os.stat_result) -> str:
    """Of a file's time and size."""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"


def is_image_name(name: str) -> bool:
    """Whether a file's name has an image's suffix. Hidden files are none: macOS leaves `._IMG.jpg` beside `IMG.jpg`."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
