"""The address of the broker: its scheme, its host, and what it says about TLS."""

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

SCHEMES = ("redis", "rediss", "amqp", "amqps", "redis+socket")
ENCRYPTED = ("rediss", "amqps")
FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
"""Parameters that take precedence over the settings of files."""
_VERIFY = {"none": False, "optional": True, "required": True}
_VERIFY |= {f"CERT_{name.upper()}": value for name, value in _VERIFY.items()}
_FLAG = {"false": False, "true": True}


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """A parsed address.

    url: without the parameters of TLS, with the password. checks_certificate, checks_host: false only where the address
    says so. files: paths by parameter of `FILES`.
    """

    url: str = field(repr=False)
    scheme: str
    host: str | None
    checks_certificate: bool
    checks_host: bool
    files: dict[str, str]

    @property
    def is_encrypted(self) -> bool:
        """Whether the connection uses TLS."""
        return self.scheme in ENCRYPTED

    @property
    def is_amqp(self) -> bool:
        """Whether the broker is a RabbitMQ."""
        return self.scheme.startswith("amqp")


def parse_broker_address(url: str) -> BrokerAddress:
    """Parse an address. Raises ValueError, whose text repeats nothing of the address but its scheme and parameters."""
    scheme, separator, _ = url.partition("://")
    if separator and "sentinel" in scheme:
        raise ValueError(
            f"{scheme}:// is not supported; fix: name the primary as redis://HOST:6379/0, or a proxy that follows it"
        )
    if not separator or scheme not in SCHEMES:
        # Nothing of the value is repeated: without `://`, its beginning may be a password.
        raise ValueError(f"must begin with {', '.join(f'{known}://' for known in SCHEMES)}")
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    tls = {name: value for name, value in query if name.startswith("ssl_")}
    if tls:
        if scheme not in ENCRYPTED:
            raise ValueError(f"{scheme}:// is not encrypted; fix: remove {', '.join(tls)} or use {scheme}s://")
        parts = parts._replace(query=urlencode([entry for entry in query if entry[0] not in tls]))
        url = urlunsplit(parts)
    checks_certificate = _choose(tls, "ssl_cert_reqs", _VERIFY)
    checks_host = checks_certificate and _choose(tls, "ssl_check_hostname", _FLAG)
    files = {name: tls.pop(name) for name in FILES if name in tls}
    if tls:
        raise ValueError(f"{', '.join(tls)}: unknown; the parameters of TLS are ssl_cert_reqs and ssl_check_hostname")
    return BrokerAddress(url, scheme, parts.hostname, checks_certificate, checks_host, files)


def _choose(parameters: dict[str, str], name: str, choices: dict[str, bool]) -> bool:
    value = parameters.pop(name, None)
    if value is None:
        return True
    if value not in choices:
        raise ValueError(f"{name} must be {' or '.join(known for known in choices if known.islower())}")
    return choices[value]
