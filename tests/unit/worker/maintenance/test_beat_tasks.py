"""Nights at local times, on the days on which the clocks change (Celery's own schedule)."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import maybe_schedule

from worker.consumer.validation import MESSAGE_TYPES
from worker.core.local_date import local_date
from worker.core.messages import Duty
from worker.core.messaging.broker import PUBLISH, make_celery
from worker.core.settings import Settings
from worker.core.vocabulary import DUTIES
from worker.maintenance.beat_tasks import schedule

BERLIN = "Europe/Berlin"
SPRING = [date(2026, 3, day) for day in (28, 29, 30, 31)]
AUTUMN = [date(2026, 10, day) for day in (24, 25, 26, 27)]


def starts(settings: Settings, noon_before: date, days: int) -> list[datetime]:
    """Return when beat starts a night, looking at its schedule every ten minutes for some days."""
    app = make_celery(settings)
    when = maybe_schedule(schedule(settings)["nightly"]["schedule"], app=app)
    now = last = datetime(noon_before.year, noon_before.month, noon_before.day, 12, tzinfo=UTC)
    end, found = now + timedelta(days=days), []
    when.nowfun = lambda: now.astimezone(app.timezone)
    while now < end:
        now += timedelta(minutes=10)
        if when.is_due(last.astimezone(app.timezone)).is_due:
            found.append(now)
            last = now
    return found


@pytest.mark.parametrize("dates", [SPRING, AUTUMN], ids=["2026-03-29", "2026-10-25"])
@pytest.mark.parametrize("at", ["00:30", "01:00", "02:30", "03:00", "23:30"])
def test_every_local_date_has_one_night(make_settings: Callable[..., Settings], at: str, dates: list[date]) -> None:
    """02:30 does not exist on the first of these days, and exists twice on the other."""
    settings = make_settings(time_zone=BERLIN, nightly_at=at, nightly_source="x")
    found = starts(settings, dates[0] - timedelta(days=1), len(dates))
    expected = dates if at != "23:30" else [day - timedelta(days=1) for day in dates]
    assert [local_date(BERLIN, time) for time in found] == expected
    skipped = at == "02:30" and dates == SPRING
    clocks = [f"{time.astimezone(ZoneInfo(BERLIN)):%H:%M}" for time in found]
    assert clocks == [at, "03:30" if skipped else at, at, at]


@pytest.mark.parametrize(
    ("now", "named"),
    [
        ("2026-03-28T23:30:00+00:00", "2026-03-29"),
        ("2026-03-29T21:59:00+00:00", "2026-03-29"),
        ("2026-03-29T22:00:00+00:00", "2026-03-30"),
        ("2026-10-24T22:30:00+00:00", "2026-10-25"),
        ("2026-10-25T22:59:00+00:00", "2026-10-25"),
        ("2026-10-25T23:00:00+00:00", "2026-10-26"),
    ],
)
def test_local_midnight_separates_nights(now: str, named: str) -> None:
    assert local_date(BERLIN, datetime.fromisoformat(now)).isoformat() == named


@pytest.mark.parametrize("time_zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
def test_message_carries_the_local_date(make_settings: Callable[..., Settings], time_zone: str) -> None:
    """One of these two dates is never that of UTC."""
    settings = make_settings(time_zone=time_zone, nightly_source="x")
    message = schedule(settings)["nightly"]["kwargs"]["message"]()
    assert Duty.decode(message).date == datetime.now(ZoneInfo(time_zone)).date()


def test_results_are_published_only_where_a_kind_is_set(make_settings: Callable[..., Settings]) -> None:
    assert "publish" not in schedule(make_settings())
    entry = schedule(make_settings(publish="sr"))["publish"]
    assert (entry["task"], entry["options"]) == (PUBLISH, {"queue": DUTIES, "expires": 300})
    assert MESSAGE_TYPES[entry["task"]] is Duty
