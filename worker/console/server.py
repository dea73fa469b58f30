"""Options of the console's HTTP server."""

from typing import Any

from worker.console.connections import MAX_WAITING, BoundedProtocol

MAX_REQUESTS = 200
"""Number of requests at the same time; further ones are answered 503."""
SHUTDOWN_S = 10

SERVER_OPTIONS: dict[str, Any] = {
    "http": BoundedProtocol,
    # The server counts the waiting connections, too.
    "limit_concurrency": MAX_REQUESTS + MAX_WAITING,
    "timeout_graceful_shutdown": SHUTDOWN_S,
    # URLs contain image ids, and the audit log records who did what.
    "access_log": False,
    "log_config": None,
    "server_header": False,
}
