"""Send alerts to people through Apprise: webhooks, e-mail, chats.

An alert leaves the system, so it names runs and counts, never an image, a file or a person.
"""

import logging
from typing import TYPE_CHECKING, Any

import structlog

from worker.core.errors import AlertError, SettingsError, UsageError

if TYPE_CHECKING:
    from worker.core.settings import Settings

SILENT = logging.CRITICAL + 1

log = structlog.get_logger(__name__)


class Alerts:
    """The addresses of FUNDUS_ALARM_URLS. Without addresses, `send` does nothing."""

    def __init__(self, settings: "Settings") -> None:
        """Raises UsageError if Apprise is not installed, SettingsError with the number of an invalid address."""
        addresses = settings.alarm_urls.get_secret_value().split() if settings.alarm_urls is not None else []
        self._targets = [
            (number, _parse(address, number, len(addresses))) for number, address in enumerate(addresses, start=1)
        ]

    def send(self, title: str, body: str) -> None:
        """Send to every address. Raises AlertError with the numbers of those that failed, after all were tried."""
        failed = [
            number
            for number, target in self._targets
            if not target.notify(title=title, body=body, notify_type="warning")
        ]
        if failed:
            raise AlertError(
                f"FUNDUS_ALARM_URLS: address {', '.join(map(str, failed))} of {len(self._targets)} "
                "did not accept the alert"
            )
        if self._targets:
            log.info("alert_sent", title=title, addresses=len(self._targets))

    def send_or_log(self, title: str, body: str) -> None:
        """Send; log a failure instead of raising it, so that it does not hide the error that caused the alert."""
        try:
            self.send(title, body)
        except AlertError as error:
            log.error("alert_failed", title=title, code=error.code, detail=error.detail)  # noqa: TRY400 - one line


def _parse(address: str, number: int, count: int) -> Any:
    try:
        from apprise import Apprise
    except ModuleNotFoundError as error:
        raise UsageError(
            "FUNDUS_ALARM_URLS needs apprise; install the extra `alarms`: pip install 'fundus-grading[alarms]'",
            code="extra_missing",
        ) from error
    # Apprise logs addresses, which hold passwords; its failures are raised here.
    logging.getLogger("apprise").setLevel(SILENT)
    target = Apprise()
    if not target.add(address):
        raise SettingsError(f"FUNDUS_ALARM_URLS: address {number} of {count} is not a URL that Apprise supports")
    return target
