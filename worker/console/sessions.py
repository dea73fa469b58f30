"""Sessions of signed-in people: a secret in a cookie, its SHA-256 in the ledger, and two clocks that end it."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Connection, Engine, delete, insert, or_, select, update

from worker.core.vocabulary import Role
from worker.ledger.database import epoch_now, read_transaction, write_transaction
from worker.ledger.review_schema import sessions, users

IDLE_S = 30 * 60
"""Without a page asked for; what a page asks for by itself doesn't count."""
LONGEST_S = 12 * 3600
_SEEN_EVERY_S = 60
"""Not every page is worth a write."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is signed in."""

    name: str
    role: Role
    token: str = field(repr=False)

    @property
    def form_token(self) -> str:
        """What every form of this session has to carry."""
        return form_token(self.token)


def new_token() -> str:
    """256 random bits; only ever made here, never taken from a browser."""
    return secrets.token_urlsafe(32)


def form_token(token: str) -> str:
    """Follows from the cookie's secret, which no other site can read; tells nothing about it."""
    return hashlib.sha256(f"form {token}".encode()).hexdigest()


def is_form_token(given: str, token: str) -> bool:
    """Whether a form was made for the cookie that came with it."""
    return hmac.compare_digest(given.encode(), form_token(token).encode())


def begin_session(connection: Connection, name: str) -> str:
    """A new session's secret; sessions that are over are forgotten on the way."""
    connection.execute(delete(sessions).where(_over()))
    token = new_token()
    connection.execute(
        insert(sessions).values(token_sha256=_digest(token), name=name, began_at=epoch_now(), seen_at=epoch_now())
    )
    return token


def find_person(engine: Engine, token: str, *, by_itself: bool = False) -> Person | None:
    """Whose session it is; None when it is over or never was. `by_itself`: nobody asked, so the session gets no longer.

    Raises DatabaseError.
    """
    with read_transaction(engine) as connection:
        row = connection.execute(
            select(users.c.name, users.c.role, (epoch_now() - sessions.c.seen_at).label("idle_s"))
            .join(users, users.c.name == sessions.c.name)
            .where(sessions.c.token_sha256 == _digest(token), users.c.disabled_at.is_(None), ~_over())
        ).first()
    if row is None:
        return None
    if not by_itself and row.idle_s > _SEEN_EVERY_S:
        with write_transaction(engine) as connection:
            connection.execute(
                update(sessions).where(sessions.c.token_sha256 == _digest(token)).values(seen_at=epoch_now())
            )
    return Person(row.name, Role(row.role), token)


def end_session(connection: Connection, token: str) -> None:
    """The secret is worth nothing from now on."""
    connection.execute(delete(sessions).where(sessions.c.token_sha256 == _digest(token)))


def _over() -> ColumnElement[bool]:
    return or_(sessions.c.began_at < epoch_now() - LONGEST_S, sessions.c.seen_at < epoch_now() - IDLE_S)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
