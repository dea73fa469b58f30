import socket

import pytest

from worker.console.server import check_port
from worker.core.errors import UsageError


def test_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            UsageError, match=rf"cannot listen on 127.0.0.1, port {port}: Address already in use; fix: "
        ):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_unknown_host_is_named() -> None:
    with pytest.raises(UsageError, match=r"cannot listen on no-such-host.invalid, port 8080: "):
        check_port("no-such-host.invalid", 8080)
