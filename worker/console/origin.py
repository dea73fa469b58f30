"""Where the console lives: which hosts it answers to, whose forms it takes, and whether cookies need TLS."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from worker.core.errors import SettingsError
from worker.core.settings import LOOPBACK, Settings

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """`netlocs`: host and port as browsers write them in `Host`; a loopback address has several names."""

    scheme: str
    netlocs: frozenset[str]

    @property
    def secure(self) -> bool:
        """Whether everything goes over TLS."""
        return self.scheme == "https"

    def is_asked(self, headers: Headers) -> bool:
        """Whether a request was meant for this console; a name that somebody's DNS points here is none of ours."""
        return headers.get("host", "").lower() in self.netlocs

    def is_own_form(self, headers: Headers) -> bool:
        """Whether the browser says that a form came from a page of this console, or says nothing of it."""
        if (origin := headers.get("origin")) is not None:
            return origin.lower() in {f"{self.scheme}://{netloc}" for netloc in self.netlocs}
        return headers.get("sec-fetch-site", "same-origin") == "same-origin"


def make_origin(settings: Settings, host: str, port: int) -> Origin:
    """The origin of FUNDUS_CONSOLE_URL, else of `host`, which then has to be this machine alone.

    Raises SettingsError for another host without FUNDUS_CONSOLE_URL: nobody would know whether TLS is in front.
    """
    if settings.console_url is None:
        if host not in LOOPBACK:
            raise SettingsError(
                f"to serve on {host}, set FUNDUS_CONSOLE_URL to the address under which people reach the console"
            )
        return Origin("http", _netlocs("http", host, port))
    parts = urlsplit(settings.console_url)
    return Origin(parts.scheme, _netlocs(parts.scheme, parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]))


def _netlocs(scheme: str, host: str, port: int) -> frozenset[str]:
    names = LOOPBACK if host in LOOPBACK else (host.lower(),)
    written = [f"[{name}]" if ":" in name else name for name in names]
    with_port = {f"{name}:{port}" for name in written}
    return frozenset(with_port | set(written) if port == DEFAULT_PORTS[scheme] else with_port)
