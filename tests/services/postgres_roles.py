"""Logins for the programs, with the rights of deploy/postgres/roles.sql."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

ROLES = Path(__file__).parents[2] / "deploy" / "postgres" / "roles.sql"
ROLE_NAMES = ("producer", "worker", "reader", "keeper", "console", "publisher")
PASSWORD = "marked-database-password"


@contextmanager
def program_roles(owner: str) -> Iterator[dict[str, str]]:
    """Create the roles as an operator does, with a login for each, and yield the URLs by role until the block ends.

    owner: URL of a migrated ledger, which is among them.
    """
    with closing(psycopg.connect(owner, autocommit=True)) as connection:
        connection.execute(ROLES.read_bytes())
        connection.execute(ROLES.read_bytes())
        for role in ROLE_NAMES:
            login = f"CREATE ROLE marked_{role} LOGIN PASSWORD '{PASSWORD}' IN ROLE fundus_{role}"
            connection.execute(login.encode())
    at = urlsplit(owner)
    yield {"owner": owner} | {
        role: f"postgresql://marked_{role}:{PASSWORD}@127.0.0.1:{at.port}{at.path}" for role in ROLE_NAMES
    }
    with closing(psycopg.connect(owner, autocommit=True)) as connection:
        for role in ROLE_NAMES:
            connection.execute(f"DROP OWNED BY marked_{role}; DROP ROLE marked_{role}".encode())
