"""Filter references by modification time and track the latest one."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from worker.core.errors import UsageError
from worker.core.manifests.image_reference import ImageReference

LAST = "last"
MARGIN = timedelta(days=1)
"""Tolerance: clocks differ, and an object may carry the time at which its upload began."""


def parse_since(text: str, last: datetime | None) -> datetime | None:
    """Parse an ISO date or date and time, in UTC unless it has an offset, or `last`.

    `last` is one day before the latest known watermark, or None without one. Raises UsageError for any other text.
    """
    if text == LAST:
        return None if last is None else last - MARGIN
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"since {text[:40]!r} is neither `last` nor a date such as 2026-11-22", code="since") from None
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed


class Watermark:
    """Filter that drops references modified before `since` and keeps those without a modification time.

    newest: the latest modification time read so far. older: number of references dropped.
    """

    def __init__(self, since: datetime | None) -> None:
        self._since = since
        self.newest: datetime | None = None
        self.older = 0

    def filter(self, references: Iterator[ImageReference]) -> Iterator[ImageReference]:
        """Yield the references that are not older than `since`."""
        for reference in references:
            at = reference.modified_at
            if at is not None:
                self.newest = at if self.newest is None else max(self.newest, at)
                if self._since is not None and at < self._since:
                    self.older += 1
                    continue
            yield reference
