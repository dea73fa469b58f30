from datetime import UTC, datetime

import pytest

from worker.report.page import format_commands, format_time_range

EVENING = datetime(2026, 11, 22, 20, 1, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (EVENING.replace(second=59), "2026-11-22 20:01 UTC"),
        (EVENING.replace(hour=23), "2026-11-22 20:01 to 23:01 UTC"),
        (EVENING.replace(day=23), "2026-11-22 20:01 to 2026-11-23 20:01 UTC"),
    ],
)
def test_time_range_does_not_repeat_an_equal_day_or_time(ended: datetime, expected: str) -> None:
    assert format_time_range(EVENING, ended) == expected


def test_commands_are_marked_as_code_and_the_rest_is_escaped() -> None:
    marked = format_commands("Put <it> there, then `fundus resend <b> --failed`.")
    assert marked == "Put &lt;it&gt; there, then <code>fundus resend &lt;b&gt; --failed</code>."
