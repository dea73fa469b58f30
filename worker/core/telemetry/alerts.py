"""Tell people that something has gone wrong, by whatever Apprise knows: a webhook, e-mail, a chat.

An alarm leaves the house: it names runs and counts, never an image, a file or a person.
"""

import logging
from typing import TYPE_CHECKING, Any

import structlog

from worker.core.errors import AlarmError, SettingsError, UsageError

if TYPE_CHECKING:
    from worker.core.settings import Settings

SILENT = logging.CRITICAL + 1

log = structlog.get_logger(__name__)


class Alarms:
    """The addresses of FUNDUS_ALARM_URLS; with none, `send` does nothing."""

    def __init__(self, settings: "Settings") -> None:
        """Raises UsageError when the extra is missing, SettingsError, by number, for an address that is none."""
        addresses = settings.alarm_urls.get_secret_value().split() if settings.alarm_urls is not None else []
        self._targets = [
            (number, _parse(address, number, len(addresses))) for number, address in enumerate(addresses, start=1)
        ]

    def send(self, title: str, body: str) -> None:
        """Tell everybody. Raises AlarmError, by number, when an address did not take it; the others have."""
        failed = [
            number
            for number, target in self._targets
            if not target.notify(title=title, body=body, notify_type="warning")
        ]
        if failed:
            raise AlarmError(
                f"address {', '.join(map(str, failed))} of {len(self._targets)} in FUNDUS_ALARM_URLS did not take it"
            )
        if self._targets:
            log.info("alarm_sent", title=title, addresses=len(self._targets))

    def send_or_log(self, title: str, body: str) -> None:
        """The same, for where another error is on its way and must not be hidden."""
        try:
            self.send(title, body)
        except AlarmError as error:
            log.error("alarm_failed", title=title, code=error.code, detail=error.detail)  # noqa: TRY400 - one line


def _parse(address: str, number: int, count: int) -> Any:
    try:
        from apprise import Apprise
    except ModuleNotFoundError as error:
        raise UsageError(
            "FUNDUS_ALARM_URLS needs apprise, which the extra `alarms` installs: pip install 'fundus-grading[alarms]'",
            code="extra_missing",
        ) from error
    # It logs addresses, and they hold passwords; what matters of its complaints is raised here.
    logging.getLogger("apprise").setLevel(SILENT)
    target = Apprise()
    if not target.add(address):
        raise SettingsError(f"FUNDUS_ALARM_URLS: address {number} of {count} is none that Apprise knows")
    return target
