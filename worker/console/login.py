"""Sign in by name and password, with limits on the number of attempts."""

import hashlib

from sqlalchemy import ColumnElement, Connection, Engine, and_, delete, func, insert, select

from worker.console.passwords import verify_password
from worker.console.sessions import begin_session
from worker.core.errors import FundusError
from worker.core.vocabulary import AuditAction
from worker.ledger.audit_log import record_action
from worker.ledger.database import epoch_now, read_transaction, write_transaction
from worker.ledger.review_schema import MAX_USER_CHARS, sign_in_attempts, users

WINDOW_S = 15 * 60
PER_NAME_AND_ADDRESS = 5
PER_ADDRESS = 30
"""Higher than for one name: a whole clinic may share an address."""
PER_NAME = 50
"""Limits guessing from many addresses. A lower limit would let anyone lock a user out."""
MAX_ADDRESS_CHARS = 64


class TooManyAttemptsError(FundusError):
    """The number of sign-in attempts exceeds a limit."""

    code = "too_many_attempts"


def sign_in(engine: Engine, name: str, password: str, address: str) -> str | None:
    """Return the token of a new session, or None for a wrong name or password. Both are recorded in the audit log.

    Raises TooManyAttemptsError before the password is verified, and DatabaseError.
    """
    name = name[: MAX_USER_CHARS + 1]  # a longer name belongs to no user, and must not match one by its beginning
    attempt = _Attempt(engine, name, address[:MAX_ADDRESS_CHARS])
    with read_transaction(engine) as connection:
        password_hash = connection.execute(
            select(users.c.password_hash).where(users.c.name == name, users.c.disabled_at.is_(None))
        ).scalar()
        known = connection.execute(select(users.c.name).where(users.c.name == name)).scalar()
    accepted = verify_password(password, password_hash)
    with write_transaction(engine) as connection:
        # An unknown name may be a password typed into the wrong field: do not log it.
        record_action(connection, AuditAction.SIGN_IN, known or "unknown", accepted=accepted, address=attempt.address)
        if not accepted:
            return None
        attempt.clear(connection)
        return begin_session(connection, name)


class _Attempt:
    """One sign-in attempt. It is stored before attempts are counted, so that concurrent attempts count each other."""

    def __init__(self, engine: Engine, name: str, address: str) -> None:
        self.address = address
        self._name = hashlib.sha256(name.encode()).hexdigest()
        with write_transaction(engine) as connection:
            connection.execute(delete(sign_in_attempts).where(sign_in_attempts.c.at < epoch_now() - WINDOW_S))
            attempt = insert(sign_in_attempts).values(name_sha256=self._name, address=address, at=epoch_now())
            attempt_id = connection.execute(attempt.returning(sign_in_attempts.c.attempt_id)).scalar_one()
        with write_transaction(engine) as connection:
            refused = self._exceeds_a_limit(connection)
            if refused:
                # Refused attempts do not count, or repeated attempts would extend the lockout forever.
                connection.execute(delete(sign_in_attempts).where(sign_in_attempts.c.attempt_id == attempt_id))
        if refused:
            raise TooManyAttemptsError(f"too many attempts; try again in {WINDOW_S // 60} minutes")

    def clear(self, connection: Connection) -> None:
        """Delete earlier attempts with this name and address after a successful sign-in."""
        connection.execute(delete(sign_in_attempts).where(self._same_name, self._same_address))

    @property
    def _same_name(self) -> ColumnElement[bool]:
        return sign_in_attempts.c.name_sha256 == self._name

    @property
    def _same_address(self) -> ColumnElement[bool]:
        return sign_in_attempts.c.address == self.address

    def _exceeds_a_limit(self, connection: Connection) -> bool:
        limits = (
            (and_(self._same_name, self._same_address), PER_NAME_AND_ADDRESS),
            (self._same_address, PER_ADDRESS),
            (self._same_name, PER_NAME),
        )
        counted = select(func.count()).select_from(sign_in_attempts)
        return any(connection.execute(counted.where(same)).scalar_one() > limit for same, limit in limits)
