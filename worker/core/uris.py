"""Where a reference leads: a file's path, or a bucket and a key. What leads nowhere is the image's own fault."""

import os
import re
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

from worker.core.errors import ImageReferenceError

BUCKET_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,255}")
"""Of every S3 store; an ARN, which the client would follow elsewhere, is none."""
MAX_KEY_BYTES = 1024
"""Of S3: a longer key is refused each time, so asking the store again would never end."""
_PLAIN_OBJECT = re.compile(rf"s3://({BUCKET_PATTERN.pattern})/([A-Za-z0-9._~/-]{{1,{MAX_KEY_BYTES}}})")
"""Nothing is encoded in it: as most references are, in a twelfth of the time of taking a URI apart."""


def uri_scheme(uri: str) -> str:
    """What stands before the colon, in lower case; empty where there is none."""
    return uri.partition(":")[0].lower() if ":" in uri else ""


def parse_file_uri(uri: str) -> Path:
    """The path of `file:///DIR/NAME`, percent-decoded to the bytes of the name. Raises ImageReferenceError."""
    parts = _split(uri)
    path = _decoded(uri, parts)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not path.startswith(b"/"):
        raise ImageReferenceError(f"{uri!r} is not of the form file:///DIR/NAME")
    return Path(os.fsdecode(path))


def parse_s3_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of `s3://BUCKET/KEY`, the key percent-decoded. Raises ImageReferenceError."""
    if plain := _PLAIN_OBJECT.fullmatch(uri):
        return plain[1], plain[2]
    parts = _split(uri)
    key = _decoded(uri, parts).removeprefix(b"/")
    if parts.scheme != "s3" or not BUCKET_PATTERN.fullmatch(parts.netloc) or not key:
        raise ImageReferenceError(f"{uri!r} is not of the form s3://BUCKET/KEY")
    if len(key) > MAX_KEY_BYTES:
        raise ImageReferenceError(f"a key of {len(key)} bytes, S3 allows {MAX_KEY_BYTES}")
    try:
        return parts.netloc, key.decode()
    except UnicodeDecodeError as error:
        raise ImageReferenceError(f"the key of {uri!r} is not UTF-8") from error


def file_uri(path: Path) -> str:
    """The `file://` reference of a path, absolute and percent-encoded."""
    return path.absolute().as_uri()


def s3_uri(bucket: str, key: str) -> str:
    """The `s3://` reference of an object, percent-encoded so that `#` and `?` in keys survive."""
    return f"s3://{bucket}/{quote(key)}"


def _split(uri: str) -> SplitResult:
    try:
        return urlsplit(uri)
    except ValueError as error:
        raise ImageReferenceError(f"{uri!r} is no URI: {error}") from error


def _decoded(uri: str, parts: SplitResult) -> bytes:
    if parts.query:
        raise ImageReferenceError(f"{uri!r} has a query; a question mark in a name is written %3F")
    decoded = unquote_to_bytes(parts.path)
    if b"\0" in decoded:
        raise ImageReferenceError(f"{uri!r} holds a zero byte")
    return decoded
