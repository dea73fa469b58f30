"""Sessions that execute operations on the ledger statement by statement, in an order that the test selects."""

import queue
import threading
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, event

from tests.services.process import HUNG_AFTER_S
from worker.core.errors import FundusError
from worker.core.settings import parse_settings
from worker.ledger.database import connect

Operation = Callable[[Engine], object]
POLL_S = 0.002


def open_engine(url: str) -> Engine:
    """Connect to the ledger; on SQLite without waiting for the disk at each commit."""
    engine = connect(parse_settings(database_url=url))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    return engine


class _Signal(Enum):
    STOPPED = auto()
    ENDED = auto()


class Session:
    """A thread with its own connection, which stops before each statement and each commit.

    error: unexpected exception of the last operation. blocked: whether a statement waits for a lock of another session.
    """

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.engine = open_engine(url)
        self.engine.connect().close()  # the first connection reads the server's version
        self.error: BaseException | None = None
        self.refusals: list[FundusError] = []
        self.blocked = False
        self.in_write = False
        self.next_statement = ""
        self.backend_pid = 0
        self._operation: Operation | None = None
        self._signals: queue.SimpleQueue[_Signal] = queue.SimpleQueue()
        self._permission = threading.Semaphore(0)
        self._is_free = False
        self._thread: threading.Thread | None = None
        event.listen(self.engine, "before_cursor_execute", self._before_statement)
        event.listen(self.engine, "commit", lambda connection: self._before_end(connection, "COMMIT"))
        event.listen(self.engine, "rollback", lambda connection: self._before_end(connection, "ROLLBACK"))

    @property
    def is_idle(self) -> bool:
        return self._thread is None

    @property
    def begins_write(self) -> bool:
        """Whether the next statement begins a transaction that SQLite admits one at a time."""
        return self.next_statement == "BEGIN IMMEDIATE"

    def start(self, operation: Operation) -> None:
        """Start an operation; it stops before its first statement."""
        self._operation = operation
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()
        self.await_signal(None)

    def step(self, is_waiting: Callable[[int], bool]) -> None:
        """Execute the next statement, up to the following one, the end, or the wait for a lock."""
        self._permission.release()
        self.await_signal(is_waiting)

    def await_signal(self, is_waiting: Callable[[int], bool] | None) -> None:
        """Wait until the thread stops or ends; or, if `is_waiting` is true of its connection, waits for a lock."""
        for _ in range(int(HUNG_AFTER_S / POLL_S)):
            try:
                signal = self._signals.get(timeout=POLL_S)
            except queue.Empty:
                if is_waiting is not None and is_waiting(self.backend_pid):
                    self.blocked = True
                    return
                continue
            self.blocked = False
            if signal is _Signal.ENDED:
                assert self._thread is not None
                self._thread.join()
                self._thread, self.next_statement = None, ""
            return
        raise AssertionError(f"{self.name} hangs in {self.next_statement!r}")

    def close(self) -> None:
        """Let the operation end without further stops."""
        self._is_free = True
        self._permission.release()
        if self._thread is not None:
            self._thread.join(HUNG_AFTER_S)
        self.engine.dispose()

    def _run(self) -> None:
        assert self._operation is not None
        try:
            self._operation(self.engine)
        except FundusError as error:
            self.refusals.append(error)
        except BaseException as error:  # noqa: BLE001 - the test raises it
            self.error = error
        self._signals.put(_Signal.ENDED)

    def _before_statement(self, connection: Connection, _cursor: Any, statement: str, *_: object) -> None:
        if isinstance(connection.connection.driver_connection, psycopg.Connection):
            self.backend_pid = connection.connection.driver_connection.info.backend_pid
        self._stop(statement)
        if statement == "BEGIN IMMEDIATE":
            self.in_write = True

    def _before_end(self, _connection: Connection, statement: str) -> None:
        self._stop(statement)
        self.in_write = False

    def _stop(self, statement: str) -> None:
        # Threads of the program itself, such as the renewal of a lock, do not stop.
        if self._is_free or threading.current_thread() is not self._thread:
            return
        self.next_statement = statement
        self._signals.put(_Signal.STOPPED)
        self._permission.acquire()
