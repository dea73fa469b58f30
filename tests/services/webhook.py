"""HTTP server for tests that records the JSON documents posted to it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Webhook:
    """The server. `status` is its response status, `calls` are path and JSON document of each POST."""

    port: int = 0
    status: int = 200
    calls: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def titles(self) -> list[str]:
        """Titles of the received alerts."""
        return [document["title"] for _, document in self.calls]


@contextmanager
def run_webhook() -> Iterator[Webhook]:
    """Run a server on a free port until the block ends."""
    webhook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            webhook.calls.append((self.path, json.loads(body)))
            self.send_response(webhook.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        webhook.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield webhook
        server.shutdown()
        thread.join()
