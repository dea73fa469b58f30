import pytest

from worker.core.terminal.output import escape_control_characters, format_duration, print_error


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (725, "12 min 5 s"), (12000, "3 h 20 min"), (187200, "2 d 4 h")],
)
def test_duration_has_at_most_two_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_control_characters_are_escaped() -> None:
    assert escape_control_characters("a\x1b[2J\nü\u202e") == "a\\x1b[2J\\nü\\u202e"


def test_long_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("usage", "[bold]" + "word " * 60 + "\n")

    assert capsys.readouterr().err == f"error[usage]: [bold]{'word ' * 60}\\n\n"
