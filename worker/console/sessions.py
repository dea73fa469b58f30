"""Sessions of signed-in users: a token in a cookie, its SHA-256 in the ledger, an idle limit and a maximum age."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Connection, Engine, delete, insert, or_, select, update

from worker.core.vocabulary import Role
from worker.ledger.database import epoch_now, read_transaction, write_transaction
from worker.ledger.review_schema import sessions, users

MAX_IDLE_S = 30 * 60
"""A session ends after this time without a request. Background requests do not count."""
MAX_AGE_S = 12 * 3600
_SEEN_EVERY_S = 60
"""Minimum time between updates of the last use of a session."""


@dataclass(frozen=True, slots=True)
class SessionUser:
    """A signed-in user with the token of the session."""

    name: str
    role: Role
    token: str = field(repr=False)

    @property
    def form_token(self) -> str:
        """The token that each form of this session must contain."""
        return form_token(self.token)


def new_token() -> str:
    """Return 256 random bits. Tokens are generated here and never accepted from a browser."""
    return secrets.token_urlsafe(32)


def form_token(token: str) -> str:
    """Derive the form token from a session token. It does not reveal the session token."""
    return hashlib.sha256(f"form {token}".encode()).hexdigest()


def is_form_token(given: str, token: str) -> bool:
    """Whether a form token belongs to the session token."""
    return hmac.compare_digest(given.encode(), form_token(token).encode())


def seal(text: str, token: str) -> str:
    """Return a code for a text that only this session's server can make: a page carries it without showing the text."""
    return hmac.new(token.encode(), f"seal {text}".encode(), hashlib.sha256).hexdigest()


def begin_session(connection: Connection, name: str) -> str:
    """Start a session and return its token. Also deletes expired sessions."""
    connection.execute(delete(sessions).where(_is_expired()))
    token = new_token()
    connection.execute(
        insert(sessions).values(token_sha256=_digest(token), name=name, began_at=epoch_now(), seen_at=epoch_now())
    )
    return token


def find_session_user(engine: Engine, token: str, *, background: bool = False) -> SessionUser | None:
    """Return the user of a session; None if it has expired or never existed.

    A `background` request does not extend the session. Raises DatabaseError.
    """
    with read_transaction(engine) as connection:
        row = connection.execute(
            select(users.c.name, users.c.role, (epoch_now() - sessions.c.seen_at).label("idle_s"))
            .join(users, users.c.name == sessions.c.name)
            .where(sessions.c.token_sha256 == _digest(token), users.c.disabled_at.is_(None), ~_is_expired())
        ).first()
    if row is None:
        return None
    if not background and row.idle_s > _SEEN_EVERY_S:
        with write_transaction(engine) as connection:
            connection.execute(
                update(sessions).where(sessions.c.token_sha256 == _digest(token)).values(seen_at=epoch_now())
            )
    return SessionUser(row.name, Role(row.role), token)


def end_session(connection: Connection, token: str) -> None:
    """Delete the session of a token."""
    connection.execute(delete(sessions).where(sessions.c.token_sha256 == _digest(token)))


def _is_expired() -> ColumnElement[bool]:
    return or_(sessions.c.began_at < epoch_now() - MAX_AGE_S, sessions.c.seen_at < epoch_now() - MAX_IDLE_S)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
