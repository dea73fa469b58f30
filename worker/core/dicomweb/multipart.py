"""Take apart and make bodies of the type `multipart/related` (RFC 2387) with DICOM files as parts."""

from collections.abc import Sequence
from email.message import Message
from uuid import uuid4

DICOM = "application/dicom"
MAX_HEADER_BYTES = 8192
_END_OF_HEADER = b"\r\n\r\n"


def read_only_part(content_type: str, body: bytes) -> bytes:
    """Return the content of the only part; a body of the type `application/dicom` is returned as it is.

    Raises ValueError for any other type, a part of another type, several parts, or a body that does not end with the
    closing delimiter.
    """
    header = _parse_type(content_type)
    if header.get_content_type() == DICOM:
        return body
    boundary = header.get_boundary()
    if header.get_content_type() != "multipart/related" or not boundary:
        raise ValueError(f"content type {header.get_content_type()} instead of multipart/related with a boundary")
    delimiter = b"--" + boundary.encode("latin-1")
    # Before the first delimiter there may be a preamble, which means nothing; the first line may be the delimiter.
    start = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter, 0, MAX_HEADER_BYTES) + 2
    if start == 1:
        raise ValueError("multipart body without its boundary")
    first = start + len(delimiter)
    content_at = body.find(_END_OF_HEADER, first, first + MAX_HEADER_BYTES)
    if body[first : first + 2] != b"\r\n" or content_at < 0:
        raise ValueError("multipart body without the header of a part")
    part_type = _read_part_type(body[first + 2 : content_at])
    if part_type != DICOM:
        raise ValueError(f"part of type {part_type} instead of {DICOM}")
    content_at += len(_END_OF_HEADER)
    end = body.find(b"\r\n" + delimiter, content_at)
    if end < 0:
        raise ValueError("multipart body without its closing delimiter")
    if not body.startswith(b"--", end + 2 + len(delimiter)):
        raise ValueError("multipart body with several parts instead of one")
    return body[content_at:end]


def make_body(files: Sequence[bytes]) -> tuple[str, bytes]:
    """Return the content type and the body with one part for each DICOM file."""
    boundary = uuid4().hex
    part_header = f"--{boundary}\r\nContent-Type: {DICOM}\r\n\r\n".encode()
    pieces = [piece for file in files for piece in (part_header, file, b"\r\n")]
    return f'multipart/related; type="{DICOM}"; boundary={boundary}', b"".join(
        [*pieces, f"--{boundary}--\r\n".encode()]
    )


def _parse_type(text: str) -> "Message[str, str]":
    header: Message[str, str] = Message()
    header["Content-Type"] = text
    return header


def _read_part_type(header: bytes) -> str:
    for line in header.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-type":
            return _parse_type(value.strip().decode("latin-1")).get_content_type()
    raise ValueError("part without a content type")
