"""Reserve TCP ports of loopback that no other test process uses.

A free port may be taken by another process before the server listens on it. Test processes therefore reserve a port by
binding an abstract Unix socket with the port in its name, which the kernel releases when the process ends.
"""

import random
import socket

from producer.demo.embedded_valkey import is_free

PORTS = range(12_000, 20_000)
"""Apart from those of SeaweedFS (10,000 to 22,000 in two blocks), the embedded Valkey and outgoing connections."""

_reservations: dict[int, socket.socket] = {}


def reserve_port() -> int:
    """Return a free port that is reserved until this process ends."""
    while True:
        port = random.choice(PORTS)
        if reserve_all([port]):
            return port


def reserve_all(ports: list[int]) -> bool:
    """Reserve all of `ports`, or none and return False if one is in use or reserved."""
    reserved = []
    for port in ports:
        reservation = None if port in _reservations else _reserve(port)
        if reservation is None:
            for other in reserved:
                _reservations.pop(other).close()
            return False
        _reservations[port] = reservation
        reserved.append(port)
    return True


def _reserve(port: int) -> socket.socket | None:
    reservation = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        reservation.bind(f"\0fundus-test-port-{port}")
    except OSError:
        reservation.close()
        return None
    if not is_free(port):
        reservation.close()
        return None
    return reservation
