"""User accounts of the console."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, select, update

from worker.console.passwords import hash_password
from worker.core.errors import UsageError
from worker.core.vocabulary import AuditAction, Role
from worker.ledger.audit_log import record_action
from worker.ledger.database import read_transaction, write_transaction
from worker.ledger.review_schema import MAX_USER_CHARS, sessions, users

CODE = "user_invalid"
_NAME = re.compile(rf"[a-z][a-z0-9._-]{{0,{MAX_USER_CHARS - 1}}}")


@dataclass(frozen=True, slots=True)
class User:
    """A user account. `disabled_at` is set while the user may not sign in."""

    name: str
    role: Role
    created_at: datetime
    disabled_at: datetime | None


def add_user(engine: Engine, name: str, role: Role, password: str) -> None:
    """Create an account. Raises UsageError for a name that exists or is malformed, or a weak password."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"user name {name!r} is invalid: use a lower-case letter followed by lower-case letters, digits, "
            f"`.`, `_` or `-`, at most {MAX_USER_CHARS} characters",
            code=CODE,
        )
    password_hash = hash_password(name, password)
    with write_transaction(engine) as connection:
        if connection.execute(select(users.c.name).where(users.c.name == name)).first() is not None:
            raise UsageError(f"user {name!r} already exists", code=CODE)
        connection.execute(
            insert(users).values(name=name, role=role, password_hash=password_hash, created_at=datetime.now(UTC))
        )
        record_action(connection, AuditAction.CHANGE_USER, user=name, change="add", role=role)


def set_password(engine: Engine, name: str, password: str) -> None:
    """Replace the password and end all sessions of the user. Raises UsageError."""
    _change(engine, name, "password", password_hash=hash_password(name, password))


def set_role(engine: Engine, name: str, role: Role) -> None:
    """Change the role and end all sessions of the user. Raises UsageError."""
    _change(engine, name, f"role {role}", role=role)


def disable_user(engine: Engine, name: str) -> None:
    """Block sign-in and end all sessions of the user. Raises UsageError."""
    _change(engine, name, "disable", disabled_at=datetime.now(UTC))


def enable_user(engine: Engine, name: str) -> None:
    """Allow a disabled user to sign in again. Raises UsageError."""
    _change(engine, name, "enable", disabled_at=None)


def list_users(engine: Engine) -> list[User]:
    """Return all accounts, ordered by name."""
    query = select(users.c.name, users.c.role, users.c.created_at, users.c.disabled_at).order_by(users.c.name)
    with read_transaction(engine) as connection:
        return [User(**row._asdict() | {"role": Role(row.role)}) for row in connection.execute(query)]


def _change(engine: Engine, name: str, change: str, **values: Any) -> None:
    with write_transaction(engine) as connection:
        if not connection.execute(update(users).where(users.c.name == name).values(values)).rowcount:
            raise UsageError(f"no user {name!r}; list users with `fundus console user list`", code=CODE)
        _end_sessions(connection, name)
        record_action(connection, AuditAction.CHANGE_USER, user=name, change=change)


def _end_sessions(connection: Connection, name: str) -> None:
    connection.execute(delete(sessions).where(sessions.c.name == name))
