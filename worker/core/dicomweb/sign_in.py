"""Sign-in and TLS of a PACS or FHIR server, from settings with the same names for each of them."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import urllib3
from pydantic import SecretStr

from worker.core.errors import SettingsError, StorageError
from worker.core.settings import PREFIX, Settings


@dataclass(frozen=True, slots=True)
class SignIn:
    """Settings of one server's sign-in and TLS. prefix: beginning of their names, as in `FUNDUS_FHIR`."""

    prefix: str
    user: str | None
    password: SecretStr | None
    password_file: Path | None
    token: SecretStr | None
    token_file: Path | None
    ca: Path | None
    client_certificate: Path | None
    client_key: Path | None


def read_sign_in(settings: Settings, server: Literal["dicomweb", "fhir"]) -> SignIn:
    """Return the settings of a server."""
    names = [name for name in SignIn.__dataclass_fields__ if name != "prefix"]
    values = {name: getattr(settings, f"{server}_{name}") for name in names}
    return SignIn(PREFIX + server.upper(), **values)


def make_authorisation(sign_in: SignIn) -> Callable[[], Mapping[str, str]]:
    """Return a function that makes the headers of the sign-in; it reads files again, as tokens are renewed in them.

    Raises SettingsError for contradictory settings and unreadable files.
    """
    prefix, user = sign_in.prefix, sign_in.user
    password = _choose_secret(f"{prefix}_PASSWORD", sign_in.password, sign_in.password_file)
    token = _choose_secret(f"{prefix}_TOKEN", sign_in.token, sign_in.token_file)
    if (user is None) != (password is None):
        raise SettingsError(f"{prefix}_USER and {prefix}_PASSWORD: set both or neither")
    if token is not None:
        if user is not None:
            raise SettingsError(f"{prefix}_TOKEN and {prefix}_USER: set one of them")
        return lambda: {"Authorization": f"Bearer {token()}"}
    if user is not None and password is not None:
        return lambda: urllib3.make_headers(basic_auth=f"{user}:{password()}")
    return dict


def make_tls(sign_in: SignIn) -> ssl.SSLContext:
    """Make the context that checks the server's certificate. Raises SettingsError for unreadable files."""
    prefix, ca, certificate, key = sign_in.prefix, sign_in.ca, sign_in.client_certificate, sign_in.client_key
    if key is not None and certificate is None:
        raise SettingsError(f"{prefix}_CLIENT_KEY: needs {prefix}_CLIENT_CERTIFICATE")
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:  # of which ssl.SSLError is one
        raise SettingsError(f"{prefix}_CA: cannot read {ca}: {error.strerror or error}") from error
    if certificate is not None:
        try:
            # With a password, even an empty one, OpenSSL does not ask for one on the terminal.
            context.load_cert_chain(certificate, key, password="")
        except OSError as error:
            reason = error.strerror or error
            raise SettingsError(f"{prefix}_CLIENT_CERTIFICATE: cannot read {certificate}: {reason}") from error
    return context


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
