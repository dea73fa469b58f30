"""The origin of the console: the hosts it serves, the forms it accepts, and whether cookies require TLS."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from worker.core.errors import SettingsError
from worker.core.settings import LOOPBACK, Settings

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme and accepted `Host` values. A loopback address has several names, so `netlocs` holds all of them."""

    scheme: str
    netlocs: frozenset[str]

    @property
    def secure(self) -> bool:
        """Whether browsers reach the console over TLS."""
        return self.scheme == "https"

    def matches_host(self, headers: Headers) -> bool:
        """Whether the `Host` header names this console. Rejecting others prevents DNS rebinding."""
        return headers.get("host", "").lower() in self.netlocs

    def is_same_origin(self, headers: Headers) -> bool:
        """Whether a form comes from a page of this console. True if `Origin` and `Sec-Fetch-Site` are absent."""
        if (origin := headers.get("origin")) is not None:
            return origin.lower() in {f"{self.scheme}://{netloc}" for netloc in self.netlocs}
        return headers.get("sec-fetch-site", "same-origin") == "same-origin"


def make_origin(settings: Settings, host: str, port: int) -> Origin:
    """Return the origin of FUNDUS_CONSOLE_URL, or of a loopback `host` if it is not set.

    Raises SettingsError for any other host without FUNDUS_CONSOLE_URL, because the use of TLS is then unknown.
    """
    if settings.console_url is None:
        if host not in LOOPBACK:
            raise SettingsError(
                f"cannot serve on {host} without FUNDUS_CONSOLE_URL: set it to the https address that users open"
            )
        return Origin("http", _netlocs("http", host, port))
    parts = urlsplit(settings.console_url)
    return Origin(parts.scheme, _netlocs(parts.scheme, parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]))


def _netlocs(scheme: str, host: str, port: int) -> frozenset[str]:
    names = LOOPBACK if host in LOOPBACK else (host.lower(),)
    written = [f"[{name}]" if ":" in name else name for name in names]
    with_port = {f"{name}:{port}" for name in written}
    return frozenset(with_port | set(written) if port == DEFAULT_PORTS[scheme] else with_port)
