"""Who may use the console."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, select, update

from worker.console.passwords import hash_password
from worker.core.errors import UsageError
from worker.core.vocabulary import Action, Role
from worker.ledger.audit_log import record_action
from worker.ledger.database import read_transaction, write_transaction
from worker.ledger.review_schema import MAX_USER_CHARS, sessions, users

CODE = "user_invalid"
_NAME = re.compile(rf"[a-z][a-z0-9._-]{{0,{MAX_USER_CHARS - 1}}}")


@dataclass(frozen=True, slots=True)
class User:
    """`disabled_at`: since when the user may no longer sign in."""

    name: str
    role: Role
    created_at: datetime
    disabled_at: datetime | None


def add_user(engine: Engine, name: str, role: Role, password: str) -> None:
    """Raises UsageError for a name that is taken or malformed, or a weak password."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no user name: a letter, then letters, digits, `.`, `_` and `-`, all small, "
            f"{MAX_USER_CHARS} at most",
            code=CODE,
        )
    kept = hash_password(name, password)
    with write_transaction(engine) as connection:
        if connection.execute(select(users.c.name).where(users.c.name == name)).first() is not None:
            raise UsageError(f"there is a user {name} already", code=CODE)
        connection.execute(insert(users).values(name=name, role=role, password_hash=kept, created_at=datetime.now(UTC)))
        record_action(connection, Action.CHANGE_USER, user=name, change="add", role=role)


def set_password(engine: Engine, name: str, password: str) -> None:
    """From now on only this one; every session ends. Raises UsageError."""
    _change(engine, name, "password", password_hash=hash_password(name, password))


def set_role(engine: Engine, name: str, role: Role) -> None:
    """Every session ends. Raises UsageError."""
    _change(engine, name, f"role {role}", role=role)


def disable_user(engine: Engine, name: str) -> None:
    """Nobody signs in by that name any more, and every session ends. Raises UsageError."""
    _change(engine, name, "disable", disabled_at=datetime.now(UTC))


def enable_user(engine: Engine, name: str) -> None:
    """Undo `disable_user`. Raises UsageError."""
    _change(engine, name, "enable", disabled_at=None)


def list_users(engine: Engine) -> list[User]:
    """By name."""
    query = select(users.c.name, users.c.role, users.c.created_at, users.c.disabled_at).order_by(users.c.name)
    with read_transaction(engine) as connection:
        return [User(**row._asdict() | {"role": Role(row.role)}) for row in connection.execute(query)]


def _change(engine: Engine, name: str, change: str, **values: Any) -> None:
    with write_transaction(engine) as connection:
        if not connection.execute(update(users).where(users.c.name == name).values(values)).rowcount:
            raise UsageError(f"no user {name!r}; `fundus console user list` shows them", code=CODE)
        _end_sessions(connection, name)
        record_action(connection, Action.CHANGE_USER, user=name, change=change)


def _end_sessions(connection: Connection, name: str) -> None:
    connection.execute(delete(sessions).where(sessions.c.name == name))
