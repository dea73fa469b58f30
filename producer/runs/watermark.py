"""The modification times of a source: how far a night has seen, and what is too old for it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from worker.core.errors import UsageError
from worker.core.manifests.image_reference import ImageReference

LAST = "last"
MARGIN = timedelta(days=1)
"""An object's time may be that of the beginning of its upload, and clocks differ."""


def parse_since(text: str, last: datetime | None) -> datetime | None:
    """A date or a moment, in UTC unless it says otherwise, or `last`: a day before the newest time that is known.

    Raises UsageError for anything else.
    """
    if text == LAST:
        return None if last is None else last - MARGIN
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"since {text[:40]!r} is neither `last` nor a date as in 2026-11-22", code="since") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


class Watermark:
    """Lets references pass, except those from before `since`; `newest` is the latest time seen, `older` their number.

    What has no time always passes.
    """

    def __init__(self, since: datetime | None) -> None:
        self._since = since
        self.newest: datetime | None = None
        self.older = 0

    def over(self, references: Iterator[ImageReference]) -> Iterator[ImageReference]:
        """The references that are not too old."""
        for reference in references:
            at = reference.modified_at
            if at is not None:
                self.newest = at if self.newest is None else max(self.newest, at)
                if self._since is not None and at < self._since:
                    self.older += 1
                    continue
            yield reference
