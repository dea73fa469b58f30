"""A thread that repeats one small duty until it is stopped."""

import threading
from collections.abc import Callable

import structlog

from worker.contract.errors import FundusError

log = structlog.get_logger(__name__)


class Periodic:
    """Calls `duty` every `every_s` seconds; a failed service is logged and met again at the next turn."""

    def __init__(self, name: str, duty: Callable[[], object], *, every_s: float) -> None:
        self._duty = duty
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait for a turn that is under way, and have no more."""
        self._stopping.set()
        self._thread.join()

    def _repeat(self) -> None:
        while not self._stopping.wait(self._every_s):
            try:
                self._duty()
            except FundusError as error:
                log.warning("duty_failed", duty=self._thread.name, code=error.code, detail=error.detail)
