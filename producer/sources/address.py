"""Turn what people write for a photograph's place into one canonical URI."""

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes, urlsplit

from worker.contract.storage import file_uri

MAX_URI_CHARS = 4096
SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):")
BUCKET = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$")
STACK_ENTRY = re.compile(r"^(0|[1-9][0-9]{0,17})$")


def canonical_path(path: Path) -> Path:
    """Absolute and without `..`; symbolic links stay, so that a volume can move behind one."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - pathlib's own either keeps `..` or follows links


def canonical_uri(text: str, *, folder: Path) -> str:
    """The `file://` or `s3://` URI, percent-encoded, of a URI or a path; a relative path starts at `folder`.

    Only an entry of a stack keeps its fragment: `file:///stack.npy#7`.
    Raises ValueError with a sentence for anything else.
    """
    if len(text) > MAX_URI_CHARS:
        raise ValueError(f"{len(text)} characters, the limit is {MAX_URI_CHARS}")
    scheme = SCHEME.match(text)
    if scheme is None:
        return file_uri(canonical_path(folder / text))
    parts = urlsplit(text)
    if parts.query:
        raise ValueError(f"{text!r} has a query; write a question mark in a name as %3F")
    if parts.scheme == "file":
        return _file(text, parts.netloc, parts.path, parts.fragment)
    if parts.scheme == "s3":
        return _object(text, parts.netloc, parts.path, parts.fragment)
    raise ValueError(f"the scheme {scheme[1]!r} is neither file nor s3")


def _file(text: str, host: str, path: str, fragment: str) -> str:
    if host not in ("", "localhost") or not path.startswith("/"):
        raise ValueError(f"{text!r} needs an absolute path with three slashes: file:///DIR/NAME")
    uri = file_uri(canonical_path(Path(os.fsdecode(_decoded(text, path)))))
    if not fragment:
        return uri
    if not uri.endswith(".npy") or not STACK_ENTRY.match(fragment):
        raise ValueError(f"{text!r} has a fragment; write a # in a name as %23")
    return f"{uri}#{fragment}"


def _object(text: str, bucket: str, path: str, fragment: str) -> str:
    if not BUCKET.match(bucket) or path in ("", "/"):
        raise ValueError(f"{text!r} names no object: s3://BUCKET/KEY")
    if fragment:
        raise ValueError(f"{text!r} has a fragment; write a # in a key as %23")
    return f"s3://{bucket}{quote(_decoded(text, path))}"


def _decoded(text: str, path: str) -> bytes:
    decoded = unquote_to_bytes(path)
    if b"\0" in decoded:
        raise ValueError(f"{text!r} holds a zero byte")
    return decoded
