"""Find databases beyond this machine whose certificate is not checked."""

import os
from collections.abc import Iterable

import structlog
from sqlalchemy import URL, Engine

from worker.core.hosts import is_this_machine

VERIFIED = "verify-full"
REMEDY = (
    f"add ?sslmode={VERIFIED}&sslrootcert=FILE to FUNDUS_DATABASE_URL (sslrootcert=system: authorities of the system)"
)

log = structlog.get_logger(__name__)


def find_unverified_host(url: URL) -> str | None:
    """Return the first host beyond this machine to which the password may go without a check of its certificate.

    None for SQLite. libpq's default, `sslmode=prefer`, encrypts if the server wants it and checks nothing.
    """
    if url.get_backend_name() != "postgresql":
        return None
    if (_values(url, "sslmode") or [os.environ.get("PGSSLMODE", "prefer")])[-1] == VERIFIED:
        return None
    named = [*([url.host] if url.host else []), *_values(url, "host"), *_values(url, "hostaddr")]
    hosts = [host for names in named or [os.environ.get("PGHOST", "")] for host in names.split(",")]
    return next((host for host in hosts if not is_this_machine(host)), None)


def warn_of_unverified_host(engine: Engine) -> None:
    """Log a warning if the ledger is beyond this machine and its certificate is not checked."""
    if host := find_unverified_host(engine.url):
        log.warning("database_unverified", host=host, fix=REMEDY)


def _values(url: URL, name: str) -> list[str]:
    value: str | Iterable[str] = url.query.get(name, ())
    return [value] if isinstance(value, str) else list(value)
