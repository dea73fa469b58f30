"""The date in the time zone of the settings, which names nights."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo


def local_date(time_zone: str, now: datetime | None = None) -> date:
    """Return the date in a time zone of the IANA database. now: a time with its zone; None means the current time."""
    return (now or datetime.now(UTC)).astimezone(ZoneInfo(time_zone)).date()
