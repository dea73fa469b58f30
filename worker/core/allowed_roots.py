"""Which places references may lead to: folders and S3 prefixes, checked on the path that is really opened."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from worker.core.errors import ImageReferenceError
from worker.core.uris import BUCKET_PATTERN

CODE = "reference_not_allowed"
_STEPS = frozenset({".", ".."})
_OBJECTS = re.compile(r"s3://([^/]+)/?(.*)")


@dataclass(frozen=True, slots=True)
class AllowedRoots:
    """What lies in one of these folders or under one of these (bucket, prefix) pairs may be read."""

    folders: tuple[Path, ...] = ()
    prefixes: tuple[tuple[str, str], ...] = ()

    def resolve_file(self, path: Path) -> Path:
        """The path without links and `..`; one that is not there is judged by where it would be.

        Raises ImageReferenceError when it lies outside every folder. Names are compared byte by byte, as Linux does:
        two Unicode forms of one name are two names.
        """
        resolved = _resolved(path)
        # The folders anew each time: a volume may move behind a link.
        if not any(resolved.is_relative_to(_resolved(folder)) for folder in self.folders):
            raise ImageReferenceError(f"{path} is in no folder that may be read (FUNDUS_SOURCE_ROOTS)", code=CODE)
        return resolved

    def check_object(self, bucket: str, key: str) -> None:
        """Raises ImageReferenceError for an object outside every prefix, or with a `..` that a store may follow."""
        climbs = not _STEPS.isdisjoint(key.split("/"))
        if climbs or not any(bucket == name and key.startswith(prefix) for name, prefix in self.prefixes):
            raise ImageReferenceError(
                f"s3://{bucket}/{key} is in no place that may be read (FUNDUS_SOURCE_ROOTS)", code=CODE
            )


def parse_allowed_roots(text: str) -> AllowedRoots | None:
    """Comma-separated absolute folders and `s3://BUCKET[/PREFIX]`; None for an empty text: no bounds are set.

    A prefix ends at a slash: `s3://clinic/2026` allows `2026/eye.jpg` and not `2026-secret/eye.jpg`.
    Raises ValueError with a sentence for anything else.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        return None
    objects = [word for word in words if word.startswith("s3:")]
    return AllowedRoots(_folders(word for word in words if word not in objects), tuple(map(_prefix, objects)))


def _folders(words: Iterable[str]) -> tuple[Path, ...]:
    folders = tuple(map(Path, words))
    for folder in folders:
        if not folder.is_absolute() or "\0" in str(folder):
            raise ValueError(f"{str(folder)!r} is neither an absolute folder nor s3://BUCKET/PREFIX")
    return folders


def _prefix(word: str) -> tuple[str, str]:
    match = _OBJECTS.fullmatch(word)
    if match is None or not BUCKET_PATTERN.fullmatch(match[1]):
        raise ValueError(f"{word!r} is not of the form s3://BUCKET/PREFIX")
    prefix = match[2].strip("/")
    return match[1], f"{prefix}/" if prefix else ""


def _resolved(path: Path) -> Path:
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError) as error:
        raise ImageReferenceError(f"no file can be at {str(path)!r}: {error}", code=CODE) from error
