"""HTTP proxy before a PACS that loses or replaces the answers to stored objects, or holds one request."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

StoreFault = Literal["lost answer", "409 after storing", "409", "202 with a failed sequence", "503"]
FAILED = b'{"00081198":{"vr":"SQ","Value":[{"00081197":{"vr":"US","Value":[272]}}]}}'
_KEPT = {"accept", "authorization", "content-type"}


class StowProxy(ThreadingHTTPServer):
    """Forwards requests to a port of loopback.

    fault: of the next `times` requests to store; `503` concerns all requests. hold_at: number of the request, from 1,
    whose answer is held back after the PACS has given it; `held` is set then, and `release` lets it go.
    """

    daemon_threads = True

    def __init__(self, upstream_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream_port = upstream_port
        self.port = self.server_address[1]
        self.fault: StoreFault | None = None
        self.times = 0
        self.requests = 0
        self.stored = 0
        """Requests to store that reached the PACS."""
        self.hold_at: int | None = None
        self.held = threading.Event()
        self.release = threading.Event()
        self._lock = threading.Lock()

    def inject(self, fault: StoreFault | None, times: int = 1) -> None:
        self.fault, self.times = fault, times

    def hold(self, number: int | None) -> None:
        """Hold the request with this number, counted from now on."""
        self.requests, self.hold_at = 0, number
        self.held.clear()
        self.release.clear()

    def take_fault(self, method: str) -> StoreFault | None:
        with self._lock:
            self.requests += 1
            if self.times == 0 or (method != "POST" and self.fault != "503"):
                return None
            self.times -= 1
            return self.fault

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that have gone: some are killed."""


class _Handler(BaseHTTPRequestHandler):
    server: StowProxy
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        fault = self.server.take_fault(self.command)
        number = self.server.requests
        match fault:
            case "503":
                self._answer(503, b"")
                return
            case "409":
                self._answer(409, FAILED)
                return
            case "202 with a failed sequence":
                self._answer(202, FAILED)
                return
        status, content, kind = self._forward(body)
        if number == self.server.hold_at:
            self.server.held.set()
            self.server.release.wait(60)
        if fault == "lost answer":
            self.close_connection = True
            return
        self._answer(409 if fault == "409 after storing" else status, content, kind)

    def _forward(self, body: bytes) -> tuple[int, bytes, str]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream_port, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() in _KEPT}
        try:
            upstream.request(self.command, self.path, body=body or None, headers=headers)
            response = upstream.getresponse()
            content = response.read()
            self.server.stored += self.command == "POST"
            return response.status, content, response.headers.get("Content-Type", "")
        finally:
            upstream.close()

    def _answer(self, status: int, content: bytes, kind: str = "application/dicom+json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def stow_proxy(upstream_port: int) -> Iterator[StowProxy]:
    """Run a proxy for a port of loopback until the block ends."""
    with StowProxy(upstream_port) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, name="stow-proxy")
        thread.start()
        try:
            yield proxy
        finally:
            proxy.release.set()
            proxy.shutdown()
            thread.join()
