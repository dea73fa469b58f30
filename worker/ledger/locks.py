"""Expiring locks in the ledger: a holder that dies stops renewing its lock, which expires and is free again."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from uuid import uuid4

import structlog
from sqlalchemy import Connection, Engine, Update, insert, select, update
from sqlalchemy.exc import IntegrityError

from worker.core.errors import DatabaseError, OverlapError
from worker.ledger.database import epoch_now, read_transaction, write_transaction
from worker.ledger.schema import locks

POLL_S = 0.1
RENEWALS = 3
"""Number of renewals within the lifetime of a lock."""

log = structlog.get_logger(__name__)


class LockResult(Enum):
    """Result of an attempt to acquire or renew a lock."""

    RENEWED = auto()
    ACQUIRED = auto()
    HELD_ELSEWHERE = auto()


def acquire_lock(engine: Engine, name: str, holder: str, lock_s: float) -> LockResult:
    """Acquire a free lock or renew one that `holder` has, for `lock_s` seconds on the database clock.

    Raises DatabaseError.
    """
    until = epoch_now() + lock_s
    ours, free = locks.c.holder == holder, locks.c.until < epoch_now()
    with write_transaction(engine) as connection:
        for condition, lock in ((ours & ~free, LockResult.RENEWED), (free, LockResult.ACQUIRED)):
            taken = connection.execute(
                update(locks).where(locks.c.name == name, condition).values(holder=holder, until=until)
            )
            if taken.rowcount == 1:
                return lock
        if connection.execute(select(locks.c.name).where(locks.c.name == name)).first() is not None:
            return LockResult.HELD_ELSEWHERE
    try:
        with write_transaction(engine) as connection:
            connection.execute(insert(locks).values(name=name, holder=holder, until=until))
    except IntegrityError:
        return LockResult.HELD_ELSEWHERE
    return LockResult.ACQUIRED


class HeldLock:
    """A lock that a background thread renews until it is released."""

    def __init__(self, engine: Engine, name: str, lock_s: float) -> None:
        """Acquire the lock for `lock_s` seconds. Raises OverlapError when another process holds it, DatabaseError."""
        self.name = name
        self._engine = engine
        self._lock_s = lock_s
        self._holder = str(uuid4())
        self._lost = False
        if acquire_lock(engine, name, self._holder, lock_s) is LockResult.HELD_ELSEWHERE:
            raise OverlapError(
                f"lock {name!r} is held by another process; if that process died, the lock expires within {lock_s:g} s"
            )
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lock-{name}", daemon=True)
        self._thread.start()

    def ensure_held(self) -> None:
        """Raise OverlapError if the lock was lost, as after a long pause of this process or of the ledger."""
        if self._lost:
            raise OverlapError(f"lock {self.name!r} was lost to another process")

    def fence(self, connection: Connection) -> None:
        """Ensure that the lock stays held until the transaction ends; others that want the lock wait for it to end.

        Raises OverlapError if the lock was lost.
        """
        if connection.execute(self._ours().values(until=epoch_now() + self._lock_s)).rowcount == 0:
            raise OverlapError(f"lock {self.name!r} was lost to another process")

    def release(self) -> None:
        """Free the lock immediately, unless it was lost. Raises DatabaseError."""
        self._released.set()
        self._thread.join()
        with write_transaction(self._engine) as connection:
            connection.execute(self._ours().values(until=0))

    def _ours(self) -> Update:
        return update(locks).where(locks.c.name == self.name, locks.c.holder == self._holder)

    def _renew(self) -> None:
        while not self._released.wait(self._lock_s / RENEWALS):
            try:
                with write_transaction(self._engine) as connection:
                    self.fence(connection)
            except OverlapError:
                self._lost = True
                return
            except DatabaseError as error:
                log.warning("lock_not_renewed", lock=self.name, detail=error.detail)


@contextmanager
def locked(engine: Engine, name: str, *, lock_s: float) -> Iterator[HeldLock]:
    """Hold a lock while the context is open. Raises OverlapError when another process holds it, DatabaseError."""
    lock = HeldLock(engine, name, lock_s)
    try:
        yield lock
    finally:
        try:
            lock.release()
        except DatabaseError as error:
            # The lock expires anyway, and an error raised in the context must not be hidden.
            log.warning("lock_not_released", lock=name, detail=error.detail)


def wait_for_fence(connection: Connection, name: str) -> None:
    """Block the holder's `fence` calls until this transaction ends; wait for a fenced transaction to end first."""
    connection.execute(update(locks).where(locks.c.name == name).values(until=locks.c.until))


def wait_for_holder(engine: Engine, name: str) -> None:
    """Wait until the present holder of a lock, if there is one, has released or lost it. Raises DatabaseError."""
    first = _read_holder(engine, name)
    while first is not None and _read_holder(engine, name) == first:
        time.sleep(POLL_S)


def _read_holder(engine: Engine, name: str) -> str | None:
    with read_transaction(engine) as connection:
        return connection.scalar(select(locks.c.holder).where(locks.c.name == name, locks.c.until > epoch_now()))
