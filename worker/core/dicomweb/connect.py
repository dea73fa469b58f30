"""Make the client of the PACS that the settings name."""

import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

import urllib3
from pydantic import SecretStr

from worker.core.dicomweb.address import parse_dicomweb_address
from worker.core.dicomweb.client import DicomwebClient
from worker.core.dicomweb.connection import PacsConnection
from worker.core.errors import SettingsError, StorageError
from worker.core.settings import Settings


def make_dicomweb_client(settings: Settings, *, search_patience_s: float = 0.0) -> DicomwebClient:
    """Make the client without any request. Raises SettingsError for missing or contradictory settings.

    search_patience_s: see DicomwebClient.
    """
    if settings.dicomweb_url is None:
        raise SettingsError("FUNDUS_DICOMWEB_URL is not set; fix: name the PACS as https://HOST/dicom-web")
    address = parse_dicomweb_address(settings.dicomweb_url)
    connection = PacsConnection(
        address,
        authorise=_choose_sign_in(settings),
        tls=_make_tls(settings) if address.is_encrypted else None,
        connections=settings.dicomweb_connections,
        timeout_s=settings.dicomweb_timeout_s,
        transfer_timeout_s=settings.transfer_timeout_s,
    )
    return DicomwebClient(connection, search_patience_s=search_patience_s)


def _choose_sign_in(settings: Settings) -> Callable[[], Mapping[str, str]]:
    """Return a function that makes the headers of the sign-in; it reads files again, as tokens are renewed in them."""
    user = settings.dicomweb_user
    password = _choose_secret("FUNDUS_DICOMWEB_PASSWORD", settings.dicomweb_password, settings.dicomweb_password_file)
    token = _choose_secret("FUNDUS_DICOMWEB_TOKEN", settings.dicomweb_token, settings.dicomweb_token_file)
    if (user is None) != (password is None):
        raise SettingsError("FUNDUS_DICOMWEB_USER and FUNDUS_DICOMWEB_PASSWORD: set both or neither")
    if token is not None:
        if user is not None:
            raise SettingsError("FUNDUS_DICOMWEB_TOKEN and FUNDUS_DICOMWEB_USER: set one of them")
        return lambda: {"Authorization": f"Bearer {token()}"}
    if user is not None and password is not None:
        return lambda: urllib3.make_headers(basic_auth=f"{user}:{password()}")
    return dict


def _choose_secret(name: str, value: SecretStr | None, file: Path | None) -> Callable[[], str] | None:
    if value is not None and file is not None:
        raise SettingsError(f"{name} and {name}_FILE: set one of them")
    if value is not None:
        return value.get_secret_value
    if file is None:
        return None
    read = _secret_reader(f"{name}_FILE", file)
    try:
        read()
    except StorageError as error:
        raise SettingsError(error.detail) from error
    return read


def _secret_reader(name: str, file: Path) -> Callable[[], str]:
    def read() -> str:
        try:
            secret = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(f"{name}: cannot read {file}: {type(error).__name__}") from error
        if not secret or not secret.isprintable():
            raise StorageError(f"{name}: {file} is empty or has several lines")
        return secret

    return read


def _make_tls(settings: Settings) -> ssl.SSLContext:
    ca, certificate, key = settings.dicomweb_ca, settings.dicomweb_client_certificate, settings.dicomweb_client_key
    if key is not None and certificate is None:
        raise SettingsError("FUNDUS_DICOMWEB_CLIENT_KEY: needs FUNDUS_DICOMWEB_CLIENT_CERTIFICATE")
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:  # of which ssl.SSLError is one
        raise SettingsError(f"FUNDUS_DICOMWEB_CA: cannot read {ca}: {error.strerror or error}") from error
    if certificate is not None:
        try:
            # With a password, even an empty one, OpenSSL does not ask for one on the terminal.
            context.load_cert_chain(certificate, key, password="")
        except OSError as error:
            reason = error.strerror or error
            raise SettingsError(f"FUNDUS_DICOMWEB_CLIENT_CERTIFICATE: cannot read {certificate}: {reason}") from error
    return context
