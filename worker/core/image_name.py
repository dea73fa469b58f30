"""Name images and patients as people know them: images by their path below the source of their run."""

import re
from pathlib import PurePosixPath
from urllib.parse import quote, unquote

PSEUDONYM = re.compile("[0-9a-f]{64}")
"""A patient id as `hash_patient_id` leaves it; the report's script knows it too."""
PSEUDONYM_DIGITS = 12
"""Enough to distinguish 100,000 patients, and to search for one."""


def shorten_patient_id(patient_id: str) -> str:
    """Return the beginning of a pseudonym, and any other patient id as it is."""
    return f"{patient_id[:PSEUDONYM_DIGITS]}…" if PSEUDONYM.fullmatch(patient_id) else patient_id


def name_below(uri: str, source: str = "") -> str:
    """Return the decoded path of an image below the source, or its last part if it lies elsewhere or none is given.

    uri: canonical. source: as the ledger records it: a folder, a manifest, a stack or `s3://BUCKET/PREFIX`. Images of a
    manifest are named below its folder, entries of a stack as `NAME.npy#INDEX`.
    """
    for folder in _folders(source):
        if uri.startswith(folder) and len(uri) > len(folder):
            return unquote(uri[len(folder) :])
    return unquote(uri.rpartition("/")[2])


def _folders(source: str) -> tuple[str, ...]:
    """Return the URIs, with a slash at the end, below which an image may lie; the longest first."""
    if source.startswith("s3://"):
        bucket, _, prefix = source.removeprefix("s3://").partition("/")
        folder = prefix.rpartition("/")[0]
        return (f"s3://{bucket}/{quote(folder)}/" if folder else f"s3://{bucket}/",)
    path = PurePosixPath(source)
    if not path.is_absolute():
        return ()
    return tuple(one.as_uri().removesuffix("/") + "/" for one in (path, path.parent))
