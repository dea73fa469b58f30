"""Sign in by name and password, no more often than a person would try."""

import hashlib

from sqlalchemy import ColumnElement, Connection, Engine, and_, delete, func, insert, select

from worker.console.passwords import is_password
from worker.console.sessions import begin_session
from worker.core.errors import FundusError
from worker.core.vocabulary import Action
from worker.ledger.audit_log import record_action
from worker.ledger.database import epoch_now, read_transaction, write_transaction
from worker.ledger.review_schema import MAX_USER_CHARS, sign_in_attempts, users

WINDOW_S = 15 * 60
PER_NAME_AND_ADDRESS = 5
PER_ADDRESS = 30
"""A clinic behind one address has more than one person who mistypes."""
PER_NAME = 50
"""Guessing from many addresses; more, or a stranger could lock a name out too easily."""
MAX_ADDRESS_CHARS = 64


class TooManyAttemptsError(FundusError):
    """Somebody tried too often in a short time."""

    code = "too_many_attempts"


def sign_in(engine: Engine, name: str, password: str, address: str) -> str | None:
    """A new session's secret, or None for a wrong name or password; both are audited.

    Raises TooManyAttemptsError, before the password is looked at, and DatabaseError.
    """
    attempt = _Attempt(engine, name, address[:MAX_ADDRESS_CHARS])
    with read_transaction(engine) as connection:
        kept = connection.execute(
            select(users.c.password_hash).where(users.c.name == name[:MAX_USER_CHARS], users.c.disabled_at.is_(None))
        ).scalar()
        known = connection.execute(select(users.c.name).where(users.c.name == name[:MAX_USER_CHARS])).scalar()
    right = is_password(password, kept)
    with write_transaction(engine) as connection:
        # A name that nobody has may be a password in the wrong field.
        record_action(connection, Action.SIGN_IN, known or "unknown", accepted=right, address=attempt.address)
        if not right:
            return None
        attempt.forget(connection)
        return begin_session(connection, name)


class _Attempt:
    """Noted before it is counted and before the password is compared: attempts at the same moment count each other."""

    def __init__(self, engine: Engine, name: str, address: str) -> None:
        self.address = address
        self._name = hashlib.sha256(name.encode()).hexdigest()
        with write_transaction(engine) as connection:
            connection.execute(delete(sign_in_attempts).where(sign_in_attempts.c.at < epoch_now() - WINDOW_S))
            note = insert(sign_in_attempts).values(name_sha256=self._name, address=address, at=epoch_now())
            noted = connection.execute(note.returning(sign_in_attempts.c.attempt_id)).scalar_one()
        with write_transaction(engine) as connection:
            refused = self._is_one_too_many(connection)
            if refused:
                # Only attempts that were looked at count, or whoever goes on trying locks a name out for ever.
                connection.execute(delete(sign_in_attempts).where(sign_in_attempts.c.attempt_id == noted))
        if refused:
            raise TooManyAttemptsError(f"too many attempts; try again in {WINDOW_S // 60} minutes")

    def forget(self, connection: Connection) -> None:
        """It was the right password: the attempts before it were a person's."""
        connection.execute(delete(sign_in_attempts).where(self._same_name, self._same_address))

    @property
    def _same_name(self) -> ColumnElement[bool]:
        return sign_in_attempts.c.name_sha256 == self._name

    @property
    def _same_address(self) -> ColumnElement[bool]:
        return sign_in_attempts.c.address == self.address

    def _is_one_too_many(self, connection: Connection) -> bool:
        limits = (
            (and_(self._same_name, self._same_address), PER_NAME_AND_ADDRESS),
            (self._same_address, PER_ADDRESS),
            (self._same_name, PER_NAME),
        )
        counted = select(func.count()).select_from(sign_in_attempts)
        return any(connection.execute(counted.where(same)).scalar_one() > limit for same, limit in limits)
