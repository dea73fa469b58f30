"""Distinguish this machine from hosts beyond it."""

from ipaddress import ip_address


def is_this_machine(host: str | None) -> bool:
    """Whether a host of an address is loopback, a Unix socket (a path), or missing. Names are not resolved."""
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
