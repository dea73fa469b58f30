from datetime import UTC, datetime, timedelta, timezone

import pytest

from producer.runs.watermark import Watermark, parse_since
from worker.core.errors import UsageError
from worker.core.manifests.image_reference import ImageReference

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def at(*hours: int | None) -> list[ImageReference]:
    return [
        ImageReference(f"file:///{hour}.jpg", modified_at=None if hour is None else NOON + timedelta(hours=hour))
        for hour in hours
    ]


def test_older_reference_is_dropped_and_one_without_a_time_is_kept() -> None:
    watermark = Watermark(NOON)
    assert list(watermark.filter(iter(at(-1, 0, 3, None, 1)))) == at(0, 3, None, 1)
    assert (watermark.newest, watermark.older) == (NOON + timedelta(hours=3), 1)


def test_without_since_all_references_are_kept() -> None:
    watermark = Watermark(None)
    assert list(watermark.filter(iter(at(-1000, None)))) == at(-1000, None)
    assert (watermark.newest, watermark.older) == (NOON - timedelta(hours=1000), 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22", datetime(2026, 11, 22, tzinfo=UTC)),
        ("2026-11-22T12:00", NOON),
        ("2026-11-22T13:00+01:00", NOON.astimezone(timezone(timedelta(hours=1)))),
        ("last", NOON - timedelta(days=1)),
    ],
)
def test_since_is_a_date_a_time_or_a_day_before_the_watermark(text: str, expected: datetime) -> None:
    assert parse_since(text, NOON) == expected


def test_last_without_an_earlier_night_is_no_limit() -> None:
    assert parse_since("last", None) is None


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "22.11.2026", ""])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is neither `last` nor a date such as 2026-11-22"):
        parse_since(text, NOON)
