"""A thread that repeats one small duty until it is stopped."""

import threading
from collections.abc import Callable

import structlog

from worker.core.errors import FundusError

AGAIN_AFTER_S = 2.0

log = structlog.get_logger(__name__)


class Periodic:
    """Calls `duty` every `every_s` seconds, and soon again after a turn that failed, which is logged."""

    def __init__(
        self, name: str, duty: Callable[[], object], *, every_s: float, again_after_s: float = AGAIN_AFTER_S
    ) -> None:
        self._duty = duty
        self._every_s = every_s
        self._again_after_s = min(again_after_s, every_s)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait for a turn that is under way, and have no more."""
        self._stopping.set()
        self._thread.join()

    def _repeat(self) -> None:
        pause_s = self._every_s
        while not self._stopping.wait(pause_s):
            pause_s = self._every_s if self._take_turn() else self._again_after_s

    def _take_turn(self) -> bool:
        try:
            self._duty()
        except FundusError as error:
            log.warning("duty_failed", duty=self._thread.name, code=error.code, detail=error.detail)
        except Exception:
            # A fault of ours, yet without its duties a worker would lose its leases in silence.
            log.exception("duty_failed", duty=self._thread.name)
        else:
            return True
        return False
