"""Canonical URIs of photographs, from paths and URIs as people write them."""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from worker.core.errors import ImageReferenceError
from worker.core.uris import dicomweb_uri, file_uri, parse_dicomweb_uri, parse_file_uri, parse_s3_uri, s3_uri

MAX_URI_CHARS = 4096
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
STACK_ENTRY = re.compile(r"0|[1-9][0-9]{0,17}")


def canonical_path(path: Path) -> Path:
    """Make a path absolute and remove `..`, but keep symbolic links: a volume may move behind one."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - pathlib either keeps `..` or follows links


def canonical_uri(text: str, *, folder: Path) -> str:
    """Return the `file://`, `s3://` or `dicomweb://` URI of a URI or path, percent-encoded.

    A relative path is relative to `folder`; `dicomweb` names an instance of the PACS.
    A fragment is allowed only as the index of a stack entry: `file:///stack.npy#7`.
    Raises ValueError for any other text.
    """
    if len(text) > MAX_URI_CHARS:
        raise ValueError(f"{len(text)} characters, the limit is {MAX_URI_CHARS}")
    scheme = SCHEME.match(text)
    if scheme is None:
        return file_uri(canonical_path(folder / text))
    if scheme[1].lower() not in ("file", "s3", "dicomweb"):
        raise ValueError(f"scheme {scheme[1]!r} is not supported; use file, s3 or dicomweb")
    try:
        if scheme[1].lower() == "dicomweb":
            return dicomweb_uri(parse_dicomweb_uri(text))
        uri = (
            s3_uri(*parse_s3_uri(text)) if scheme[1].lower() == "s3" else file_uri(canonical_path(parse_file_uri(text)))
        )
    except ImageReferenceError as error:
        raise ValueError(error.detail) from error
    fragment = urlsplit(text).fragment if "#" in text else ""
    if not fragment:
        return uri
    if not uri.endswith(".npy") or not STACK_ENTRY.fullmatch(fragment):
        raise ValueError(f"{text!r} has a fragment; write a # in a name as %23")
    return f"{uri}#{fragment}"
