"""TLS of the connection to the broker: certificate and host are checked unless the address says otherwise."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worker.core.broker_address import BrokerAddress, parse_broker_address
from worker.core.errors import SettingsError
from worker.core.settings import PREFIX, Settings

CA_FILE, CERTIFICATE, KEY = "broker_ca_file", "broker_client_certificate", "broker_client_key"


def read_broker(settings: Settings) -> tuple[BrokerAddress, dict[str, Any]]:
    """Return the address of the broker and the TLS options of its client library, none without TLS.

    The options are those of redis-py or py-amqp. Without FUNDUS_BROKER_CA_FILE the system's authorities are accepted.
    Raises SettingsError when a file cannot be used.
    """
    address = parse_broker_address(settings.broker_url.get_secret_value())
    if not address.is_encrypted:
        return address, {}
    ca_file = address.files.get("ssl_ca_certs", settings.broker_ca_file)
    certificate = address.files.get("ssl_certfile", settings.broker_client_certificate)
    key = address.files.get("ssl_keyfile", settings.broker_client_key)
    _check_files(ca_file, certificate, key)
    files = {"ca_certs": ca_file, "certfile": certificate, "keyfile": key}
    options: dict[str, Any] = {name: str(file) for name, file in files.items() if file is not None}
    options["cert_reqs"] = ssl.CERT_REQUIRED if address.checks_certificate else ssl.CERT_NONE
    if address.is_amqp:
        # py-amqp compares the certificate with this name, and with none if it is missing.
        return address, options | ({"server_hostname": address.host} if address.checks_host else {})
    return address, {f"ssl_{name}": value for name, value in options.items()} | {
        "ssl_check_hostname": address.checks_host
    }


def _check_files(ca_file: Path | str | None, certificate: Path | str | None, key: Path | str | None) -> None:
    """Load the files once: the client libraries would only fail, again and again, when they connect."""
    if key is not None and certificate is None:
        raise SettingsError(f"{_variable(KEY)}: needs {_variable(CERTIFICATE)}")
    context = ssl.create_default_context()
    if ca_file is not None:
        _load(CA_FILE, ca_file, lambda: context.load_verify_locations(ca_file))
    if certificate is not None:
        # With a password, even an empty one, OpenSSL does not ask for one on the terminal.
        _load(CERTIFICATE, certificate, lambda: context.load_cert_chain(certificate, key, password=""))


def _load(setting: str, file: Path | str, load: Callable[[], None]) -> None:
    try:
        load()
    except OSError as error:  # of which ssl.SSLError is one
        raise SettingsError(f"{_variable(setting)}: cannot read {file}: {error.strerror or error}") from error


def _variable(setting: str) -> str:
    return PREFIX + setting.upper()
