from datetime import UTC, datetime

import pytest

from worker.report.page import format_commands, format_time_range

EVENING = datetime(2026, 11, 22, 20, 1, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (EVENING.replace(second=59), "2026-11-22 20:01 UTC"),
        (EVENING.replace(hour=23), "2026-11-22 20:01 to 23:01 UTC"),
        (EVENING.replace(day=23), "2026-11-22 20:01 to 2026-11-23 20:01 UTC"),
    ],
)
def test_span_names_day_and_time_once_where_they_are_the_same(ended: datetime, words: str) -> None:
    assert format_time_range(EVENING, ended) == words


def test_commands_are_code_and_all_else_is_text() -> None:
    marked = format_commands("Put <it> there, then `fundus resend <b> --failed`.")
    assert marked == "Put &lt;it&gt; there, then <code>fundus resend &lt;b&gt; --failed</code>."
