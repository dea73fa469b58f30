"""Make and parse the `file://`, `s3://` and `dicomweb://` URIs of images."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

from worker.core.errors import ImageReferenceError

BUCKET_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,255}")
"""Bucket names of all S3 stores. An ARN does not match: the client would follow it to another place."""
MAX_KEY_BYTES = 1024
"""Limit of S3. Stores always refuse a longer key, so retrying it would never succeed."""
_UNENCODED_S3_URI = re.compile(rf"s3://({BUCKET_PATTERN.pattern})/([A-Za-z0-9._~/-]{{1,{MAX_KEY_BYTES}}})")
"""The usual form, without percent-encoding; matching it takes a twelfth of the time of parsing a URI."""

PACS = "pacs"
"""Name of the PACS of FUNDUS_DICOMWEB_URL in URIs, which neither its address nor a sign-in is part of."""
UID_PATTERN = re.compile(r"(?=.{1,64}\Z)[0-9]+(?:\.[0-9]+)*")
"""UIDs of DICOM as they are received: also leading zeros, which the standard forbids and cameras write.

`image_id_is_uid` is stricter."""
_DICOMWEB_URI = re.compile(r"dicomweb://([a-z0-9-]+)/([0-9.]+)/([0-9.]+)/([0-9.]+)")


@dataclass(frozen=True, slots=True)
class InstancePath:
    """UIDs of a DICOM instance, its series and its study."""

    study: str
    series: str
    instance: str

    @property
    def path(self) -> str:
        """The path of the instance below the root of a DICOMweb service."""
        return f"studies/{self.study}/series/{self.series}/instances/{self.instance}"


def uri_scheme(uri: str) -> str:
    """Return the scheme in lower case, or an empty string."""
    return uri.partition(":")[0].lower() if ":" in uri else ""


def parse_file_uri(uri: str) -> Path:
    """Return the path of `file:///DIR/NAME`, percent-decoded to bytes. Raises ImageReferenceError."""
    parts = _split(uri)
    path = _decode_path(uri, parts)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not path.startswith(b"/"):
        raise ImageReferenceError(f"{uri!r} is not of the form file:///DIR/NAME")
    return Path(os.fsdecode(path))


def parse_s3_uri(uri: str) -> tuple[str, str]:
    """Return bucket and percent-decoded key of `s3://BUCKET/KEY`. Raises ImageReferenceError."""
    if match := _UNENCODED_S3_URI.fullmatch(uri):
        return match[1], match[2]
    parts = _split(uri)
    key = _decode_path(uri, parts).removeprefix(b"/")
    if parts.scheme != "s3" or not BUCKET_PATTERN.fullmatch(parts.netloc) or not key:
        raise ImageReferenceError(f"{uri!r} is not of the form s3://BUCKET/KEY")
    if len(key) > MAX_KEY_BYTES:
        raise ImageReferenceError(f"key has {len(key)} bytes, S3 allows {MAX_KEY_BYTES}")
    try:
        return parts.netloc, key.decode()
    except UnicodeDecodeError as error:
        raise ImageReferenceError(f"the key of {uri!r} is not UTF-8") from error


def file_uri(path: Path) -> str:
    """Return the percent-encoded `file://` URI of a path, made absolute."""
    return path.absolute().as_uri()


def s3_uri(bucket: str, key: str) -> str:
    """Return the `s3://` URI of an object, percent-encoded so that keys may contain `#` and `?`."""
    return f"s3://{bucket}/{quote(key)}"


def parse_dicomweb_uri(uri: str) -> InstancePath:
    """Return the instance of `dicomweb://pacs/STUDY/SERIES/INSTANCE`. Raises ImageReferenceError."""
    match = _DICOMWEB_URI.fullmatch(uri)
    if match is None or not all(UID_PATTERN.fullmatch(uid) for uid in match.groups()[1:]):
        raise ImageReferenceError(f"{uri!r} is not of the form dicomweb://{PACS}/STUDY/SERIES/INSTANCE")
    if match[1] != PACS:
        raise ImageReferenceError(f"{uri!r}: the only PACS is {PACS!r}, that of FUNDUS_DICOMWEB_URL")
    return InstancePath(*match.groups()[1:])


def dicomweb_uri(instance: InstancePath) -> str:
    """Return the URI of an instance of the PACS."""
    return f"dicomweb://{PACS}/{instance.study}/{instance.series}/{instance.instance}"


def is_moved_instance(uri: str, other: str) -> bool:
    """Whether two URIs name one instance of the PACS in different studies or series, as after a merge of patients."""
    prefix = f"dicomweb://{PACS}/"
    both = uri.startswith(prefix) and other.startswith(prefix)
    return both and uri.rpartition("/")[2] == other.rpartition("/")[2]


def _split(uri: str) -> SplitResult:
    try:
        return urlsplit(uri)
    except ValueError as error:
        raise ImageReferenceError(f"{uri!r} is not a URI: {error}") from error


def _decode_path(uri: str, parts: SplitResult) -> bytes:
    if parts.query:
        raise ImageReferenceError(f"{uri!r} has a query; write a question mark in a name as %3F")
    decoded = unquote_to_bytes(parts.path)
    if b"\0" in decoded:
        raise ImageReferenceError(f"{uri!r} contains a zero byte")
    return decoded
