"""Options of the console's HTTP server."""

import socket
from typing import Any

from worker.console.connections import MAX_WAITING, BoundedProtocol
from worker.core.errors import UsageError

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


def check_port(host: str, port: int) -> None:
    """Raise UsageError if the address cannot be listened on, such as a port that another program has."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            # As the server does: a port of connections that have just ended is free.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        why = error.strerror or error
        raise UsageError(f"cannot listen on {host}, port {port}: {why}; fix: choose another one with --port") from error
