"""Circuit breaker: a store that fails gets one request at a time, so that it cannot occupy all transfer threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from worker.core.errors import ImageError, ObjectRefusedError, StorageError, StoreBusyError, StoreDownError

FAILURES_TO_OPEN = 5
"""Successive failures after which requests are limited."""


class CircuitBreaker:
    """Counts the failures of one store; thread-safe.

    While it is open, one request at a time passes as a probe, and others fail without being sent. The first success
    closes it. An error about the object is an answer of the store, and counts as a success. A store that asks to wait
    has neither failed nor answered: its client sends no request until then.
    """

    def __init__(self, store: str, *, patience_s: float) -> None:
        """store: name in error messages. patience_s: a store that fails for longer is down."""
        self._store = store
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._failures = 0
        self._failing_since = 0.0
        self._probing = False

    @contextmanager
    def request(self) -> Iterator[None]:
        """Enclose one request.

        Raises StorageError without a request while another one probes the failing store. Once the store is down, each
        StorageError becomes a StoreDownError.
        """
        is_probe = self._admit()
        try:
            yield
        except (ImageError, ObjectRefusedError):
            self._record_success()
            raise
        except StoreBusyError:
            raise
        except StorageError as error:
            if self._record_failure():
                raise StoreDownError(error.detail) from error
            raise
        else:
            self._record_success()
        finally:
            if is_probe:
                self._probing = False

    def _admit(self) -> bool:
        """Return whether the request is a probe."""
        with self._lock:
            if self._failures < FAILURES_TO_OPEN:
                return False
            if self._probing:
                failing_s = monotonic() - self._failing_since
                kind = StoreDownError if failing_s > self._patience_s else StorageError
                times = f"{self._failures} times in {failing_s:.0f} s"
                raise kind(f"{self._store} failed {times}; another request probes it")
            self._probing = True
            return True

    def _record_success(self) -> None:
        with self._lock:
            self._failures = 0

    def _record_failure(self) -> bool:
        """Return whether the store is down."""
        with self._lock:
            if not self._failures:
                self._failing_since = monotonic()
            self._failures += 1
            return self._failures > FAILURES_TO_OPEN and monotonic() - self._failing_since > self._patience_s
