"""The address of a PACS or FHIR server, and whether it may be reached without encryption."""

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from worker.core.hosts import is_this_machine

PLAIN_HTTP = ("plain_http", "true")


@dataclass(frozen=True, slots=True)
class DicomwebAddress:
    """A parsed address. url: root of the service without a slash at the end. host: for messages."""

    url: str
    host: str
    is_encrypted: bool


def parse_dicomweb_address(text: str, settings: str = "FUNDUS_DICOMWEB") -> DicomwebAddress:
    """Parse `https://HOST[:PORT]/PATH`, or `http://` for this machine or with `?plain_http=true` at the end.

    settings: beginning of the names of the server's settings. Raises ValueError, whose text repeats nothing of the
    address, as it may contain a password.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is not a URL; use https://HOST/PATH") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("must be https://HOST/PATH")
    if "@" in parts.netloc:
        raise ValueError(f"must not contain a user or password; fix: use {settings}_USER and {settings}_PASSWORD")
    query = parse_qsl(parts.query, keep_blank_values=True)
    if parts.fragment or any(parameter != PLAIN_HTTP for parameter in query):
        raise ValueError("must not have a fragment, nor a query except ?plain_http=true")
    is_encrypted = parts.scheme == "https"
    if not is_encrypted and not query and not is_this_machine(host):
        raise ValueError(
            "http:// sends personal data and the password unencrypted; fix: use https://, or add ?plain_http=true to"
            " accept that"
        )
    url = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
    return DicomwebAddress(url, host if port is None else f"{host}:{port}", is_encrypted)
