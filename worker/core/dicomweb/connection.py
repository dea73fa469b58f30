"""Send requests to one PACS or FHIR server: TLS, sign-in, limits of time, size and parallel requests, its errors."""

import math
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from urllib.parse import quote, urlencode

import urllib3
from urllib3.exceptions import HTTPError, InvalidHeader

from worker.core.dicomweb.address import DicomwebAddress
from worker.core.errors import ImageTooLargeError, StorageError, StoreBusyError
from worker.core.storage.transfer_timeout import limit_time

CONNECT_TIMEOUT_S = 5
PIECE_BYTES = 2**18
MAX_PAUSE_S = 60.0
"""Longest time for which requests are held back, whatever the PACS asks for."""
TEMPORARY_STATUSES = {408, 425, 429}
CREDENTIAL_STATUSES = {401, 407}

Query = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that concerns the request: success, or a status from 400 to 499 that is neither temporary nor 401."""

    status: int
    content_type: str
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


class PacsConnection:
    """Sends requests to one PACS, a limited number at a time; thread-safe.

    Redirects are not followed, as they would carry the sign-in elsewhere, and neither proxies nor `.netrc` files are
    used.
    """

    def __init__(
        self,
        address: DicomwebAddress,
        *,
        authorise: Callable[[], Mapping[str, str]],
        tls: ssl.SSLContext | None,
        connections: int,
        timeout_s: float,
        transfer_timeout_s: float,
        settings: str = "FUNDUS_DICOMWEB",
    ) -> None:
        """Create it without any request.

        authorise: returns the headers of the sign-in, asked for each request. tls: None for plain HTTP. connections:
        the most parallel requests. timeout_s: of one response. transfer_timeout_s: of one whole body.
        settings: beginning of the names of the server's settings.
        """
        self._settings = settings
        self.host = address.host
        self._root = urllib3.util.parse_url(address.url).path or ""
        self._authorise = authorise
        self._transfer_timeout_s = transfer_timeout_s
        self._pool = urllib3.connection_from_url(
            address.url,
            maxsize=connections,
            block=True,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=timeout_s),
            retries=False,
            **({} if tls is None else {"ssl_context": tls}),
        )
        self._paused_until = 0.0

    def request(
        self,
        method: str,
        path: str,
        *,
        accept: str,
        max_bytes: int,
        query: Query = (),
        content: tuple[str, bytes] | None = None,
    ) -> Answer:
        """Send one request and read its answer.

        path: below the root of the service; empty for the root itself. content: type and body. max_bytes: limit on the
        answer's body.

        Raises ImageTooLargeError above the limit; StoreBusyError if the PACS asks to wait, also for other requests in
        that time, which are then not sent; StorageError if it fails, refuses the sign-in or redirects.
        """
        self._check_pause()
        target = (f"{self._root}/{quote(path)}" if path else self._root or "/") + (
            f"?{urlencode(query)}" if query else ""
        )
        headers = {"Accept": accept, "Accept-Encoding": "identity", **self._authorise()}
        if content is not None:
            headers["Content-Type"] = content[0]
        ends_at = monotonic() + self._transfer_timeout_s
        try:
            response = self._pool.urlopen(
                method,
                target,
                body=None if content is None else content[1],
                headers=headers,
                redirect=False,
                preload_content=False,
                decode_content=False,
                pool_timeout=math.ceil(self._transfer_timeout_s),
            )
            try:
                self._check_status(response)
                with limit_time(response, ends_at - monotonic()):
                    body = _read_body(response, max_bytes)
            finally:
                # A response that was read to its end has left its connection to the next request. Another one would
                # keep its place in the pool for ever, even closed.
                response.close()
                response.release_conn()
        except HTTPError as error:
            if monotonic() >= ends_at:
                raise StorageError(f"{self.host}: incomplete after {self._transfer_timeout_s:g} s") from error
            raise StorageError(f"{self.host}: {_reason(error)}") from error
        return Answer(response.status, response.headers.get("Content-Type", ""), body)

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.close()

    def _check_pause(self) -> None:
        left_s = self._paused_until - monotonic()
        if left_s > 0:
            raise StoreBusyError(f"{self.host} asked to wait, for another {left_s:.0f} s", retry_after_s=left_s)

    def _check_status(self, response: urllib3.BaseHTTPResponse) -> None:
        status = response.status
        if status in CREDENTIAL_STATUSES:
            raise StorageError(f"{self.host} refuses the sign-in: HTTP {status}")
        if 300 <= status < 400:
            raise StorageError(f"{self.host} redirects (HTTP {status}): name the final address in {self._settings}_URL")
        if status in TEMPORARY_STATUSES or status >= 500 or status < 200:
            asked_s = _read_retry_after(response.headers.get("Retry-After"))
            if asked_s <= 0:
                raise StorageError(f"{self.host}: HTTP {status}")
            self._paused_until = max(self._paused_until, monotonic() + asked_s)
            raise StoreBusyError(f"{self.host}: HTTP {status}, asks to wait {asked_s:.0f} s", retry_after_s=asked_s)
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            # Not asked for; a body that expands could be of any size.
            raise StorageError(f"{self.host} answers with content encoding {encoding[:40]!r} instead of identity")


def _read_body(response: urllib3.BaseHTTPResponse, max_bytes: int) -> bytes:
    declared = response.headers.get("Content-Length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise ImageTooLargeError(f"{declared} bytes, the limit is {max_bytes}")
    body = bytearray()
    while piece := response.read(PIECE_BYTES):
        body += piece
        if len(body) > max_bytes:
            raise ImageTooLargeError(f"more than {max_bytes} bytes, the limit")
    return bytes(body)


def _read_retry_after(header: str | None) -> float:
    """Return the seconds of a Retry-After header, a number or a date; 0 without one or for another text."""
    if header is None:
        return 0.0
    try:
        return min(MAX_PAUSE_S, float(urllib3.Retry().parse_retry_after(header)))
    except InvalidHeader:
        return 0.0


def _reason(error: BaseException) -> str:
    """Return the class of the innermost cause, and a certificate's problem; never a header or an address."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its certificate is not valid: CERTIFICATE_VERIFY_FAILED"
    return type(error).__name__
