"""Run a function periodically in a background thread."""

import threading
from collections.abc import Callable

import structlog

from worker.core.errors import FundusError

RETRY_AFTER_S = 2.0

log = structlog.get_logger(__name__)


class PeriodicThread:
    """A daemon thread that calls `work` every `interval_s` seconds; it starts at once, with a pause.

    A call that raises is logged and repeated after `retry_after_s`, or after `interval_s` if that is shorter.
    """

    def __init__(
        self, name: str, work: Callable[[], object], *, interval_s: float, retry_after_s: float = RETRY_AFTER_S
    ) -> None:
        self._work = work
        self._interval_s = interval_s
        self._retry_after_s = min(retry_after_s, interval_s)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait for the current call and make no further one."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        pause_s = self._interval_s
        while not self._stopping.wait(pause_s):
            pause_s = self._interval_s if self._call() else self._retry_after_s

    def _call(self) -> bool:
        try:
            self._work()
        except FundusError as error:
            log.warning("periodic_work_failed", work=self._thread.name, code=error.code, detail=error.detail)
        except Exception:
            # A bug must not end the thread: without it a worker would lose its leases silently.
            log.exception("periodic_work_failed", work=self._thread.name)
        else:
            return True
        return False
