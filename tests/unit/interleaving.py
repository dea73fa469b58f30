"""Run two operations on PostgreSQL in a fixed order: one stops inside its transaction while the other runs."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event, text

from tests.services.process import HUNG_AFTER_S
from worker.core.settings import parse_settings
from worker.ledger.database import connect

Operation = Callable[[Engine], Any]


def interleave(url: str, first: Operation, second: Operation, *, stop_after: str) -> tuple[Any, Any]:
    """Run `first` up to its first statement that contains `stop_after`, then `second`, then the rest of `first`.

    `second` runs until it ends or waits for a lock that `first` holds. Returns the results of both; the exception of an
    operation that raised one.
    """
    engines = [connect(parse_settings(database_url=url)) for _ in range(2)]
    with paused_after(engines[0], stop_after) as pause:
        running_first = Running(first, engines[0])
        pause.wait_reached()
        running_second = Running(second, engines[1])
        while not (running_second.wait(0.01) or is_waiting_for_lock(engines[0])):
            running_second.check_time()
        pause.resume()
        results = running_first.result(), running_second.result()
    for engine in engines:
        engine.dispose()
    return results


class Running:
    """An operation in a thread."""

    def __init__(self, operation: Operation, engine: Engine) -> None:
        self._result: Any = None
        self._deadline = time.monotonic() + HUNG_AFTER_S
        self._thread = threading.Thread(target=self._run, args=(operation, engine), daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait for the end; return whether the operation has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def check_time(self) -> None:
        assert time.monotonic() < self._deadline, "the operation neither ends nor waits for a lock"

    def result(self) -> Any:
        """Result of the operation, or the exception that it raised."""
        assert self.wait(HUNG_AFTER_S), "the operation does not end"
        return self._result

    def _run(self, operation: Operation, engine: Engine) -> None:
        try:
            self._result = operation(engine)
        except Exception as error:  # noqa: BLE001 - the test checks it
            self._result = error


class Pause:
    """Point at which a statement has been executed and its transaction is still open."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.resumed = threading.Event()

    def wait_reached(self) -> None:
        assert self.reached.wait(HUNG_AFTER_S), "the statement was not executed"

    def resume(self) -> None:
        self.resumed.set()


@contextmanager
def paused_after(engine: Engine, words: str) -> Iterator[Pause]:
    """Stop the thread that executes the first statement with these words, until the pause is resumed."""
    pause = Pause()

    def stop(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if words in " ".join(statement.split()) and not pause.reached.is_set():
            pause.reached.set()
            assert pause.resumed.wait(HUNG_AFTER_S)

    event.listen(engine, "after_cursor_execute", stop)
    try:
        yield pause
    finally:
        pause.resume()
        event.remove(engine, "after_cursor_execute", stop)


def is_waiting_for_lock(engine: Engine) -> bool:
    """Whether a connection to the database waits for a lock."""
    with engine.connect() as connection:
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(connection.scalar(waiting))
