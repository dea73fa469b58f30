"""A reference to one fundus photograph, as a source gives it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from worker.contract.vocabulary import Eye, Grade

Remark = Callable[[str], None]
"""Takes one sentence for the operator about something that was left out."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")


@dataclass(frozen=True, slots=True)
class Reference:
    """Where one photograph lies and what is known of it; `uri` is canonical, sha256 is lower-case hexadecimal."""

    uri: str
    image_id: str | None = None
    patient_id: str | None = None
    eye: Eye = Eye.UNKNOWN
    reference_grade: Grade | None = None
    sha256: str | None = None

    @property
    def identity(self) -> str:
        """The given image_id, else the first 32 hexadecimal digits of the SHA-256 of the URI."""
        return self.image_id or hashlib.sha256(self.uri.encode()).hexdigest()[:32]


def is_image_name(name: str) -> bool:
    """Whether a file's name has an image's suffix. Hidden files are none: macOS leaves `._IMG.jpg` beside `IMG.jpg`."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
