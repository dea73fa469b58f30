"""Folders, S3 prefixes and the PACS that image references may point into."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from worker.core.errors import ImageReferenceError
from worker.core.uris import BUCKET_PATTERN, PACS

CODE = "reference_not_allowed"
_DOT_SEGMENTS = frozenset({".", ".."})
_PACS_ROOT = f"dicomweb://{PACS}"
_S3_PREFIX = re.compile(r"s3://([^/]+)/?(.*)")


@dataclass(frozen=True, slots=True)
class AllowedRoots:
    """Folders, and (bucket, key prefix) pairs, below which images may be read, and whether the PACS may be read."""

    folders: tuple[Path, ...] = ()
    prefixes: tuple[tuple[str, str], ...] = ()
    has_pacs: bool = False

    def resolve_file(self, path: Path) -> Path:
        """Return the path with symbolic links and `..` resolved; the file need not exist.

        Raises ImageReferenceError if the result is outside every folder. Names are compared byte by byte, as Linux
        does: two Unicode forms of a name are different names.
        """
        resolved = _resolve(path)
        # Resolve the folders at each call: a volume may move behind a symbolic link.
        if not any(resolved.is_relative_to(_resolve(folder)) for folder in self.folders):
            raise ImageReferenceError(f"{path} is outside the allowed folders (FUNDUS_SOURCE_ROOTS)", code=CODE)
        return resolved

    def check_object(self, bucket: str, key: str) -> None:
        """Raise ImageReferenceError for a key outside every prefix, or with `.` or `..` that a store may resolve."""
        has_dots = not _DOT_SEGMENTS.isdisjoint(key.split("/"))
        if has_dots or not any(bucket == name and key.startswith(prefix) for name, prefix in self.prefixes):
            raise ImageReferenceError(
                f"s3://{bucket}/{key} is outside the allowed prefixes (FUNDUS_SOURCE_ROOTS)", code=CODE
            )

    def check_pacs(self) -> None:
        """Raise ImageReferenceError if the PACS may not be read."""
        if not self.has_pacs:
            raise ImageReferenceError(f"{_PACS_ROOT} is not among the allowed places (FUNDUS_SOURCE_ROOTS)", code=CODE)


def parse_allowed_roots(text: str) -> AllowedRoots | None:
    """Parse comma-separated absolute folders, `s3://BUCKET[/PREFIX]` and `dicomweb://pacs`; an empty text gives None,
    for no limits.

    A prefix ends at a slash: `s3://clinic/2026` allows `2026/eye.jpg` and not `2026-secret/eye.jpg`.
    Raises ValueError for any other text.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        return None
    s3_words = [word for word in words if word.startswith("s3:")]
    folders = _parse_folders(word for word in words if word not in s3_words and word != _PACS_ROOT)
    return AllowedRoots(folders, tuple(map(_parse_prefix, s3_words)), _PACS_ROOT in words)


def _parse_folders(words: Iterable[str]) -> tuple[Path, ...]:
    folders = tuple(map(Path, words))
    for folder in folders:
        if not folder.is_absolute() or "\0" in str(folder):
            raise ValueError(f"{str(folder)!r} is not an absolute folder, s3://BUCKET/PREFIX or {_PACS_ROOT}")
    return folders


def _parse_prefix(word: str) -> tuple[str, str]:
    match = _S3_PREFIX.fullmatch(word)
    if match is None or not BUCKET_PATTERN.fullmatch(match[1]):
        raise ValueError(f"{word!r} is not of the form s3://BUCKET/PREFIX")
    prefix = match[2].strip("/")
    return match[1], f"{prefix}/" if prefix else ""


def _resolve(path: Path) -> Path:
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError) as error:
        raise ImageReferenceError(f"invalid path {str(path)!r}: {error}", code=CODE) from error
